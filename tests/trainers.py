"""Trainers on prepared grids, as tests make them."""

from collections.abc import Sequence
from pathlib import Path

from ocean_emulators.build import build_trainer
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.experiment import Experiment
from ocean_emulators.train.trainer import Report, Trainer
from ocean_emulators.workspace import Workspace
from tests.pipeline import RUNTIME


def quiet(epoch: int, logs: dict[str, float]) -> None:
    """Reports nothing."""


def trainer_of(
    experiment: Experiment,
    grids: Sequence[PreparedGrid],
    checkpoint: Path,
    report: Report = quiet,
    workspace: Workspace | None = None,
) -> Trainer:
    """The trainer of an experiment; files are found in the workspace, by default in the folder of the checkpoint."""
    workspace = workspace or Workspace(checkpoint.parent, checkpoint.parent)
    return build_trainer(experiment.training, {g.name: g for g in grids}, RUNTIME, workspace, checkpoint, report)
