"""The tracker that keeps nothing."""

from collections.abc import Mapping
from pathlib import Path

from ocean_emulators.tracking.base import TRACKERS
from ocean_emulators.tracking.provenance import Provenance


@TRACKERS.register("none")
class NullTracker:
    """Keeps nothing."""

    def __init__(self, experiment: str, provenance: Provenance, home: Path) -> None:
        """Arguments as of any tracker; none is used."""

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
