"""What a tracker can do, and the one that does nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


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


class NullTracker:
    """Keeps nothing."""

    def stages_done(self) -> set[str]:
        """None."""
        return set()

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Nothing."""

    def log_file(self, path: Path, folder: str) -> None:
        """Nothing."""

    def describe(self, text: str) -> None:
        """Nothing."""

    def begin(self, stage: str) -> None:
        """Nothing."""

    def end(self, stage: str, succeeded: bool) -> None:
        """Nothing."""
