"""Stage `stats`: normalisation statistics and climatology of each prepared grid."""

from ocean_emulators.datasets.config import DataSections
from ocean_emulators.jobs.stats import StatsJob
from ocean_emulators.parallel import Resources
from ocean_emulators.stages.base import Launch, have_done
from ocean_emulators.workspace import Workspace


def main(sections: DataSections, workspace: Workspace, resources: Resources, launch: Launch) -> None:
    """Have the job done, and put its results into `data/stats`."""
    job = StatsJob.of(sections, workspace, resources)
    have_done(job, "stats", workspace.statistics, launch, replace=True)
