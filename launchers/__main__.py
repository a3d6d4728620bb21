"""`python -m launchers STAGE`: what the DVC stages call."""

import argparse
import importlib
from functools import partial
from pathlib import Path

from launchers.config import LaunchConfig, add_launch_argument, load_launch_config
from launchers.jobs import TrackedJob, UntrackedJob
from launchers.slurm import Mode, Work
from launchers.submit import submit
from ocean_emulators.datasets.config import DataSections
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment, load_experiment
from ocean_emulators.jobs.base import Job
from ocean_emulators.outlook import Outlook, look_again, look_ahead
from ocean_emulators.plan import plan_of
from ocean_emulators.programs import ending_well
from ocean_emulators.streams import outliving_readers
from ocean_emulators.tracking import require_trackers
from ocean_emulators.workspace import Workspace

STAGES = ("prepare", "stats", "train", "evaluate", "compare")


def main(stage: str, launch: Path | None = None, mode: Mode = "wait") -> None:
    """Check the whole experiment, so that none fails after hours at what could be known before; then run a stage of it."""
    workspace, config = Workspace.here(), load_launch_config(launch)
    if mode != "wait" and not config.submits(stage):
        raise UserError(f"--{mode}: stage {stage} is not submitted to a cluster by this launch configuration")
    experiment = load_experiment(workspace.params)
    require_trackers(workspace.home)
    outlook = look_ahead(experiment) if stage == "prepare" else look_again(experiment, workspace)
    run = importlib.import_module(f"ocean_emulators.stages.{stage}").main  # what the other stages need takes seconds
    tracked = partial(_do_tracked, stage, experiment, outlook, config, mode)
    match stage:
        case "prepare" | "stats":
            here = partial(_do_untracked, stage, experiment, config, mode)
            run(DataSections(data=experiment.data), workspace, config.prepare, here)
        case "train":
            run(experiment.training, workspace, config.runtime, tracked)
        case "evaluate":
            run(experiment.evaluating, workspace, config.runtime, tracked)
        case "compare":
            run(experiment.comparing, workspace, config.runtime, tracked)


def _do_untracked(stage: str, experiment: Experiment, config: LaunchConfig, mode: Mode, job: Job) -> None:
    """Preparation and statistics: also in this process dask takes their pieces elsewhere where it is asked to."""
    work = UntrackedJob(job)
    if config.submits(stage):
        submit(Work(stage, experiment.name, job, work), config, mode)
    else:
        work()


def _do_tracked(
    stage: str, experiment: Experiment, outlook: Outlook, config: LaunchConfig, mode: Mode, job: Job
) -> None:
    plan = partial(plan_of, experiment, outlook)
    submit(Work(stage, experiment.name, job, TrackedJob.of(stage, job, experiment), plan), config, mode)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m launchers", description="Run a stage of dvc.yaml, as DVC does.")
    parser.add_argument("stage", choices=STAGES)
    add_launch_argument(parser)
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--detach", action="store_true", help="submit, and do not wait: `dvc repro` picks the result up")
    modes.add_argument("--dry-run", action="store_true", help="print what would be submitted")
    options = parser.parse_args()
    chosen: Mode = "detach" if options.detach else "dry-run" if options.dry_run else "wait"
    with outliving_readers(), ending_well("`dvc repro` goes on where it was"):
        main(options.stage, options.launch, chosen)
