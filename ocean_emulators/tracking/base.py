"""What a tracker can do, and the registry of them: a module each."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from ocean_emulators.registry import Registry
from ocean_emulators.tracking.provenance import Provenance


class Tracker(Protocol):
    """The record of one experiment, from training through to comparison."""

    def stages_done(self) -> set[str]:
        """The stages whose results this record already holds."""
        ...

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Numbers at a step: an epoch, or a lead in days."""
        ...

    def log_file(self, path: Path, folder: str) -> None:
        """A small file: figure, table, configuration."""
        ...

    def describe(self, text: str) -> None:
        """What a reader of the record sees first, Markdown."""
        ...

    def begin(self, stage: str) -> None:
        """A stage starts to write to the record."""
        ...

    def end(self, stage: str, succeeded: bool) -> None:
        """A stage has written its results, or has failed."""
        ...


TRACKERS: Registry[Callable[[str, Provenance, Path], Tracker]] = Registry("tracker", "ocean_emulators.tracking")
"""By name, what opens the record of an experiment: of its name, what it was made from, and the project's folder."""
