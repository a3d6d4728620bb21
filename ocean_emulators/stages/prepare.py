"""Stage `prepare`: from the source to the packed training stores."""

from ocean_emulators.datasets.config import DataSections
from ocean_emulators.jobs.prepare import PrepareJob
from ocean_emulators.parallel import Resources
from ocean_emulators.stages.base import Launch, have_done
from ocean_emulators.workspace import Workspace


def main(sections: DataSections, workspace: Workspace, resources: Resources, launch: Launch) -> None:
    """Have the job done, and put its results into `data/prepared`."""
    job = PrepareJob.of(sections, workspace, resources)
    have_done(job, "prepare", workspace.prepared, launch, replace=True)
