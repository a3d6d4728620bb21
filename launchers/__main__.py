"""`python -m launchers STAGE`: what the DVC stages call."""

import argparse
import importlib
from functools import partial

from launchers.config import LaunchConfig, load_launch_config
from launchers.jobs import TrackedJob, UntrackedJob
from launchers.submit import submit
from ocean_emulators.datasets.config import DataSections
from ocean_emulators.datasets.statistics.stored import read_statistics
from ocean_emulators.datasets.store.packed_store import store_path
from ocean_emulators.experiment import Experiment, load_experiment
from ocean_emulators.jobs.base import Job
from ocean_emulators.plan import look_again, look_ahead
from ocean_emulators.programs import ending_well
from ocean_emulators.streams import outliving_readers
from ocean_emulators.tracking import Provenance
from ocean_emulators.workspace import Workspace

STAGES = ("prepare", "stats", "train", "evaluate", "compare")


def main(stage: str) -> None:
    """Check the whole experiment, so that none fails after hours at what could be known before; then run a stage of it."""
    workspace, config = Workspace.here(), load_launch_config()
    experiment = load_experiment(workspace.params)
    if stage == "prepare":
        look_ahead(experiment)
    else:
        look_again(experiment, workspace)
    run = importlib.import_module(f"ocean_emulators.stages.{stage}").main  # what the other stages need takes seconds
    match stage:
        case "prepare" | "stats":
            run(DataSections(data=experiment.data), workspace, config.prepare, _do_here)
        case "train":
            run(experiment.training, workspace, config.runtime, partial(_do_tracked, stage, experiment, config))
        case "evaluate":
            run(experiment.evaluating, workspace, config.runtime, partial(_do_tracked, stage, experiment, config))
        case "compare":
            run(experiment.comparing, workspace, config.runtime, partial(_do_tracked, stage, experiment, config))


def _do_here(job: Job) -> None:
    """Preparation and statistics are not submitted: dask takes their pieces elsewhere where it is asked to."""
    UntrackedJob(job)()


def _do_tracked(stage: str, experiment: Experiment, config: LaunchConfig, job: Job) -> None:
    statistics = read_statistics(store_path(job.workspace.statistics, experiment.data.grids[0]))
    provenance = Provenance(experiment.dump(), statistics.fingerprint)
    submit(TrackedJob(stage, job, experiment, provenance), config)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m launchers", description="Run a stage of dvc.yaml, as DVC does.")
    parser.add_argument("stage", choices=STAGES)
    options = parser.parse_args()
    with outliving_readers(), ending_well("`dvc repro` goes on where it was"):
        main(options.stage)
