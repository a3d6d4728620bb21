"""`ocean-emulators reproduce RUN`: makes a run again from what its record says, and compares what comes out."""

import argparse
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ocean_emulators.cli.differences import Inputs
from ocean_emulators.cli.runs import CALLED
from ocean_emulators.config.base import parse
from ocean_emulators.config.render import render
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment, load_experiment
from ocean_emulators.files import content_digest, write_text
from ocean_emulators.finding import Found, found_run
from ocean_emulators.tracking.environment import CHANGES
from ocean_emulators.workspace import PACKAGE, PARAMS, Workspace, sources_digest

_KEPT = ("prepare", "stats")
"""Stages whose results are brought from DVC's caches where they are there: their content is told by digests."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run, and where."""
    parser.add_argument("name", metavar="RUN", help=CALLED)
    parser.add_argument("--into", type=Path, help="folder to make it in (default: build/reproduce-KEY)")
    parser.add_argument("--keep", action="store_true", help="keep the folder, with all that was made")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Say what of it came out the same; ends in 1 where something did not."""
    workspace = Workspace.here()
    with found_run(options.name, workspace.home) as found:
        if not found.outputs:
            raise UserError(f"run {options.name}: it has left nothing yet that could be compared")
        folder = (options.into or workspace.root / "build" / f"reproduce-{found.about.key[:8]}").absolute()
        if folder.exists():
            raise UserError(f"{folder}: is there already; remove it, or name another by --into")
        print(*_told_of_this_tree(found, workspace), sep="\n", flush=True)
        try:
            experiment, remade = _set_up(found, folder, workspace), Workspace(folder, folder)
            _bring_data(folder, workspace)
            _repro(
                folder, [name for name in remade.results if any(out.startswith(f"{name}/") for out in found.outputs)]
            )
            print("", *_told_of_what_was_read(found, experiment, remade), sep="\n")
            different = _compare(found, remade)
        finally:
            if not options.keep:
                _git(workspace.root, "worktree", "remove", "--force", str(folder), must=False)
                shutil.rmtree(folder, ignore_errors=True)
    if different:
        sys.exit(1)


def _set_up(found: Found, folder: Path, workspace: Workspace) -> Experiment:
    """The code and the configuration of the run, in a folder of their own."""
    commit = found.tags.get("git.commit", "none")
    if commit == "none":
        raise UserError("the run was made outside of git: its code is not known")
    _git(workspace.root, "worktree", "add", "--detach", str(folder), commit)
    changes = found.files / CHANGES
    if changes.is_file():
        _git(folder, "apply", "--whitespace=nowarn", str(changes.absolute()))
    inside = folder / PACKAGE.name
    if sources_digest([inside], folder) != found.tags["code.sha256"]:
        raise UserError(
            f"the code of the run can't be made again: commit {commit[:12]} with the recorded changes is not what it ran "
            "(files that git ignores, or changes that held a secret, are not recorded)"
        )
    experiment = parse(Experiment, found.about.config, f"run {found.about.key[:8]}")
    write_text(folder / PARAMS, render(experiment))
    return experiment


def _bring_data(folder: Path, workspace: Workspace) -> None:
    """Prepared data and statistics as DVC has them, here or at a remote; what it has not is made by the stages."""
    settings = Path(".dvc/config.local")
    if (workspace.home / settings).is_file():
        shutil.copy(workspace.home / settings, folder / settings)
    _dvc(folder, "cache", "dir", "--local", str(workspace.home / ".dvc" / "cache"))
    source = load_yaml(folder / PARAMS)["data"]["source"]
    if not (folder / source).exists() and (workspace.home / source).exists():
        (folder / source).parent.mkdir(parents=True, exist_ok=True)
        (folder / source).symlink_to((workspace.home / source).absolute())
    for stage in _KEPT:
        _dvc(folder, "pull", "--no-run-cache", stage, must=False)


def _repro(folder: Path, stages: list[str]) -> None:
    """Make them anew, whatever DVC has of them."""
    for stage in ("stats", *stages):
        fresh = [] if stage == "stats" else ["--force", "--single-item", "--no-run-cache"]
        command = [sys.executable, "-m", "dvc", "repro", *fresh, stage]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        environment = os.environ | {"OCEAN_EMULATORS_TRACKER": "none", "PYTHONPATH": str(folder), "PATH": path}
        if subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
            raise UserError(f"stage {stage} has failed in {folder}, see above")


def _told_of_this_tree(found: Found, workspace: Workspace) -> list[str]:
    """What would have been another run, had it been made here; nothing where there are no data here."""
    with suppress(UserError):
        lines = Inputs.of_run(found).lines_beside(Inputs.here(load_experiment(workspace.params), workspace))
        if lines:
            return ["This tree is another one; the run is made again as it was:", *(f"  {line}" for line in lines)]
    return []


def _told_of_what_was_read(found: Found, experiment: Experiment, remade: Workspace) -> list[str]:
    """What was not as it was, though code and configuration are."""
    here = replace(Inputs.here(experiment, remade), name="here", code=found.tags)
    return Inputs.of_run(found).lines_beside(here) or ["code, configuration, data and environment are those of the run"]


def _compare(found: Found, remade: Workspace) -> bool:
    """Print a line for each output; whether any is another one."""
    different = False
    for name, expected in sorted(found.outputs.items()):
        stage, _, file = name.partition("/")
        place = remade.results[stage] / file
        same = place.exists() and content_digest(place) == expected
        different |= not same
        print(f"{'identical' if same else 'DIFFERENT':<10} {place.relative_to(remade.root)}  {expected[:16]}")
    return different


def _git(where: Path, *arguments: str, must: bool = True) -> None:
    _call(["git", *arguments], where, must)


def _dvc(where: Path, *arguments: str, must: bool = True) -> None:
    _call([sys.executable, "-m", "dvc", *arguments], where, must)


def _call(command: list[str], where: Path, must: bool) -> None:
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode and must:
        raise UserError(f"{' '.join(command[:4])} …: {(done.stderr or done.stdout).strip()}")
