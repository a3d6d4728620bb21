"""`python -m launchers STAGE`: what the DVC stages call."""

import argparse
from functools import partial

from launchers.config import LaunchConfig, load_launch_config
from launchers.jobs import TrackedJob, UntrackedJob
from launchers.submit import submit
from ocean_emulators.datasets.config import DataSections
from ocean_emulators.datasets.statistics.stored import read_statistics
from ocean_emulators.datasets.store.packed_store import open_store, store_path
from ocean_emulators.experiment import Experiment, load_experiment
from ocean_emulators.jobs.base import Job
from ocean_emulators.plan import count_windows, look_ahead
from ocean_emulators.programs import ending_well
from ocean_emulators.stages import compare, evaluate, prepare, stats, train
from ocean_emulators.streams import outliving_readers
from ocean_emulators.tracking import Provenance
from ocean_emulators.workspace import Workspace

STAGES = ("prepare", "stats", "train", "evaluate", "compare")


def main(stage: str) -> None:
    """Check the whole experiment, so that none fails after hours at what could be known before; then run a stage of it."""
    workspace, config = Workspace.here(), load_launch_config()
    experiment = load_experiment(workspace.params)
    data = DataSections(data=experiment.data)
    here = partial(_do_here, config=config)
    tracked = partial(_do_tracked, stage=stage, experiment=experiment, config=config)
    if stage == "prepare":
        look_ahead(experiment)
        prepare.main(data, workspace, config.prepare, here)
        return
    count_windows(experiment, open_store(store_path(workspace.prepared, data.data.grids[0])).time)
    match stage:
        case "stats":
            stats.main(data, workspace, config.prepare, here)
        case "train":
            train.main(experiment.training, workspace, config.runtime, tracked)
        case "evaluate":
            evaluate.main(experiment.evaluating, workspace, config.runtime, tracked)
        case "compare":
            compare.main(experiment.comparing, workspace, config.runtime, tracked)


def _do_here(job: Job, config: LaunchConfig) -> None:
    """Preparation and statistics are not submitted: dask takes their pieces elsewhere where it is asked to."""
    UntrackedJob(job)()


def _do_tracked(job: Job, stage: str, experiment: Experiment, config: LaunchConfig) -> None:
    statistics = read_statistics(store_path(job.workspace.statistics, experiment.data.grids[0]))
    provenance = Provenance(experiment.dump(), statistics.fingerprint)
    submit(TrackedJob(stage, job, experiment, provenance), config, job.workspace)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m launchers", description="Run a stage of dvc.yaml, as DVC does.")
    parser.add_argument("stage", choices=STAGES)
    options = parser.parse_args()
    with outliving_readers(), ending_well("`dvc repro` goes on where it was"):
        main(options.stage)
