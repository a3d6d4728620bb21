"""Trainers on prepared grids, as tests make them."""

from collections.abc import Sequence
from pathlib import Path

from ocean_emulators.build import build_trainer
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.distributed import ALONE, Ranks
from ocean_emulators.experiment import Experiment
from ocean_emulators.runtime import Runtime
from ocean_emulators.train.parts import QUIET, Reports
from ocean_emulators.train.trainer import Trainer
from ocean_emulators.workspace import Workspace
from tests.pipeline import RUNTIME


def trainer_of(
    experiment: Experiment,
    grids: Sequence[PreparedGrid],
    folder: Path,
    reports: Reports = QUIET,
    workspace: Workspace | None = None,
    ranks: Ranks = ALONE,
    runtime: Runtime = RUNTIME,
) -> Trainer:
    """The trainer of an experiment, which saves its states to a folder; files are found in the workspace, or beside it."""
    workspace = workspace or Workspace(folder.parent, folder.parent)
    named = {grid.name: grid for grid in grids}
    return build_trainer(experiment.training, named, runtime, workspace, folder, reports, ranks)


def history_of(trainer: Trainer) -> list[dict[str, float]]:
    """What is known of each epoch, but for the time that it took."""
    return [{k: v for k, v in logs.items() if k != "train/seconds"} for logs in trainer.place.history]
