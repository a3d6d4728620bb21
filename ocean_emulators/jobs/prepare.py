"""Preparation, from the source to the packed training stores."""

from dataclasses import dataclass
from pathlib import Path

from ocean_emulators.datasets.config import DataSections
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.source.pinning import require_unchanged
from ocean_emulators.jobs.base import Report, results_of
from ocean_emulators.parallel import Resources
from ocean_emulators.workspace import Workspace


@dataclass(frozen=True)
class PrepareJob:
    """Prepares the data of an experiment; see `Job`."""

    sections: DataSections
    workspace: Workspace
    resources: Resources
    folder: Path

    @classmethod
    def of(cls, sections: DataSections, workspace: Workspace, resources: Resources) -> "PrepareJob":
        """The job of an experiment on the source as it is now."""
        content = require_unchanged(sections.data.source)
        return cls(sections, workspace, resources, workspace.scratch_of("prepare", sections.dump(), content))

    def run(self, report: Report) -> None:
        """See `Job`."""
        code = self.workspace.code_digest("prepare")
        prepare(self.sections.data, results_of(self), self.workspace.scratch, self.resources, code)
