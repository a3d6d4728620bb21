"""`ocean-emulators configure`: renders `params.yaml` from a preset and changes."""

import argparse
import subprocess
from pathlib import Path
from typing import Any

from ocean_emulators.config.base import parse
from ocean_emulators.config.overrides import apply_overrides
from ocean_emulators.config.render import render
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment
from ocean_emulators.files import write_text
from ocean_emulators.workspace import PARAMS

PRESETS = Path("configs/experiment")
_SHOWN = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A preset, changes to it, and where to write."""
    parser.add_argument("preset", help=f"a name in {PRESETS}/, or a .yaml file")
    parser.add_argument("overrides", nargs="*", metavar="a.b=value", help="changes to the preset")
    parser.add_argument("--output", type=Path, default=PARAMS, help="where to write (default: %(default)s)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Render an experiment."""
    path = preset_path(options.preset)
    experiment = parse(Experiment, apply_overrides(Experiment, load_yaml(path), options.overrides), str(path))
    header = (
        f"The whole experiment, rendered from {path.as_posix()} by `ocean-emulators configure`.\n"
        "Change values here, or by `dvc exp run -S key=value`; `ocean-emulators check` says what they mean."
    )
    write_experiment(experiment, options.output, header)


def preset_path(name: str) -> Path:
    """A file as given, else the preset of that name."""
    given, preset = Path(name), PRESETS / f"{name}.yaml"
    if given.suffix in (".yaml", ".yml"):
        return given
    if not preset.is_file():
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml"))) or "none here"
        raise UserError(f"no preset {name!r} in {PRESETS}/ (there are: {known}); give one of them or a .yaml file")
    return preset


def write_experiment(experiment: Experiment, path: Path, header: str) -> None:
    """Write an experiment to a file, say what it changes there, and keep what git does not hold.

    Raises
    ------
    UserError
        If there is no folder for it, or nothing may be written there.
    """
    if not path.parent.is_dir():
        raise UserError(f"{path}: no such folder: {path.parent}; make it first")
    text = render(experiment, header)
    if path.is_file() and path.read_text(errors="replace") != text:
        for line in _changes(path, experiment):
            print(line)
        if not _is_committed(path):
            kept = path.with_name(path.name + ".bak")
            write_text(kept, path.read_text(errors="replace"))
            print(f"{path} as it was is not in git: it is kept as {kept}")
    write_text(path, text)
    print(f"wrote {path}")


def _changes(path: Path, experiment: Experiment) -> list[str]:
    """Which values an experiment changes in a file, a line each."""
    try:
        before = _leaves(load_yaml(path))
    except UserError:
        return [f"{path} was no valid YAML"]
    after = _leaves(experiment.dump())
    keys = [key for key in dict.fromkeys([*before, *after]) if before.get(key) != after.get(key)]
    lines = [f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}" for key in keys[:_SHOWN]]
    return lines + ([f"and {len(keys) - _SHOWN} more values"] if len(keys) > _SHOWN else [])


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    parts = [_leaves(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in tree.items()]
    return {key: value for part in parts for key, value in part.items()}


def _is_committed(path: Path) -> bool:
    """Whether git holds the file as it is."""
    command = ["git", "-C", str(path.parent), "status", "--porcelain", "--ignored", "--", path.name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return not done.stdout.strip()
