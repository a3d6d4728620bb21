"""The stages in this process, without DVC: seconds on the tiny ocean."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ocean_emulators.config.base import parse
from ocean_emulators.config.render import render
from ocean_emulators.datasets.config import DataSections
from ocean_emulators.experiment import Experiment, load_experiment
from ocean_emulators.jobs.base import Job, results_of
from ocean_emulators.parallel import Resources
from ocean_emulators.runtime import Runtime
from ocean_emulators.stages import compare, evaluate, prepare, stats, train
from ocean_emulators.workspace import Workspace
from tests import tiny
from tests.imports import ROOT

RUNTIME = Runtime(device="cpu")
STAGES = ("prepare", "stats", "train", "evaluate", "compare")


def new_workspace(root: Path, tree: Mapping[str, Any] | None = None) -> Workspace:
    """A project with the stages of `dvc.yaml` and an experiment, by default the one on the tiny ocean, which is written."""
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "dvc.yaml", root)
    (root / ".dvc").mkdir(exist_ok=True)
    if tree is None:
        tree = tiny.experiment(tiny.write(root / "tiny.zarr"))
    workspace = Workspace(root, root)
    configure(workspace, tree)
    return workspace


def configure(workspace: Workspace, tree: Mapping[str, Any]) -> None:
    """Write params.yaml."""
    workspace.params.write_text(render(parse(Experiment, tree, "test")))


def do_here(job: Job) -> None:
    """Launches a job in this process."""
    if not results_of(job).is_dir():
        job.run(lambda metrics, step: None)


def run_stage(workspace: Workspace, stage: str, launch: Callable[[Job], None] = do_here) -> None:
    """Run one stage of the experiment in params.yaml."""
    experiment = load_experiment(workspace.params)
    data = DataSections(data=experiment.data)
    match stage:
        case "prepare":
            prepare.main(data, workspace, Resources(workers=1), launch)
        case "stats":
            stats.main(data, workspace, Resources(workers=1), launch)
        case "train":
            train.main(experiment.training, workspace, RUNTIME, launch)
        case "evaluate":
            evaluate.main(experiment.evaluating, workspace, RUNTIME, launch)
        case "compare":
            compare.main(experiment.comparing, workspace, RUNTIME, launch)


def run_all(workspace: Workspace, stages: tuple[str, ...] = STAGES) -> Workspace:
    """Run some stages, one after the other."""
    for stage in stages:
        run_stage(workspace, stage)
    return workspace
