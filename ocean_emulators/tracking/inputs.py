"""Digests of what an experiment's stages read, as they are known before a stage runs."""

from typing import Any

from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.datasets.store.periods import PERIODS, period_path
from ocean_emulators.files import sha256
from ocean_emulators.workspace import Workspace

_FIRST = ("prepare", "stats")
"""Stages whose results all that are tracked read."""


def digests_of_inputs(workspace: Workspace, stage: str) -> dict[str, str]:
    """By name: of each period of the prepared data, and DVC's of what the stages before this one have left."""
    periods = {name: period_path(workspace.prepared, name) for name in PERIODS}
    own = {f"data.{name}": sha256(path) for name, path in periods.items() if path.is_file()}
    return own | _dvc_digests(workspace, [*_FIRST, *workspace.results_before(stage)])


def _dvc_digests(workspace: Workspace, stages: list[str]) -> dict[str, str]:
    path = workspace.root / "dvc.lock"
    if not path.is_file():
        return {}
    entries: dict[str, Any] = load_yaml(path).get("stages", {})
    outs = [out for stage in stages for out in entries.get(stage, {}).get("outs", [])]
    return {f"dvc.{out['path']}": str(out["md5"]) for out in outs if "md5" in out}
