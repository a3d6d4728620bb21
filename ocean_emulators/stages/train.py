"""Stage `train`: from prepared data to a checkpoint and its history."""

from ocean_emulators.distributed import Ranks
from ocean_emulators.jobs.train import TrainJob
from ocean_emulators.runtime import Runtime
from ocean_emulators.stages.base import Launch, have_done
from ocean_emulators.train.config import TrainSections
from ocean_emulators.workspace import Workspace


def main(sections: TrainSections, workspace: Workspace, runtime: Runtime, launch: Launch) -> None:
    """Have the job done, and put its results into `outputs/train`; of several ranks, the first does."""
    job = TrainJob.of(sections, workspace, runtime)
    if Ranks.from_environment().first:
        have_done(job, "train", workspace.training.folder, launch)
    else:
        launch(job)
