"""What the jobs have in common."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from ocean_emulators.config.base import Config
from ocean_emulators.files import replacing_folder
from ocean_emulators.workspace import Workspace

Report = Callable[[Mapping[str, float], int], None]
"""Called by a running job with metrics by name and the step (epoch) that they are of."""


class Job(Protocol):
    """Picklable, and run in any process that sees the project's files."""

    @property
    def sections(self) -> Config:
        """The sections of the experiment that it reads."""
        ...

    @property
    def workspace(self) -> Workspace:
        """Where it finds what it reads."""
        ...

    @property
    def folder(self) -> Path:
        """Its own: one for each combination of what its result depends on."""
        ...

    def run(self, report: Report) -> None:
        """Do the work, or go on where an equal job was interrupted, and leave the results in `results_of(job)`."""
        ...


def results_of(job: Job) -> Path:
    """The folder that holds a job's results once it is done."""
    return job.folder / "results"


def leaving_results(job: Job) -> AbstractContextManager[Path]:
    """A folder to write results to, which becomes `results_of(job)` if the block succeeds."""
    return replacing_folder(results_of(job))
