"""Normalisation statistics and climatology of each prepared grid."""

from dataclasses import dataclass
from pathlib import Path

from ocean_emulators.datasets.config import DataSections
from ocean_emulators.datasets.statistics.compute import compute_statistics
from ocean_emulators.datasets.statistics.writing import write_statistics
from ocean_emulators.datasets.store.packed_store import open_store, store_path
from ocean_emulators.datasets.store.periods import PERIODS, period_path
from ocean_emulators.jobs.base import Report, leaving_results
from ocean_emulators.jobs.contents import content_of
from ocean_emulators.parallel import Resources
from ocean_emulators.workspace import Workspace


@dataclass(frozen=True)
class StatsJob:
    """Takes the statistics of an experiment's data; see `Job`."""

    sections: DataSections
    workspace: Workspace
    resources: Resources
    folder: Path

    @classmethod
    def of(cls, sections: DataSections, workspace: Workspace, resources: Resources) -> "StatsJob":
        """The job of an experiment on the data that are prepared now.

        Raises
        ------
        UserError
            If none are.
        """
        content = [content_of(period_path(workspace.prepared, name), "prepare") for name in PERIODS]
        return cls(sections, workspace, resources, workspace.scratch_of("stats", sections.dump(), *content))

    def run(self, report: Report) -> None:
        """See `Job`."""
        data = self.sections.data
        with leaving_results(self) as folder:
            for grid in data.grids:
                store = open_store(store_path(self.workspace.prepared, grid))
                statistics = compute_statistics(store, data.periods.train, data.statistics, self.resources)
                write_statistics(statistics, store_path(folder, grid))
