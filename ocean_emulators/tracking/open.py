"""Opens the record of an experiment with the tracker that the user has chosen."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ocean_emulators.errors import UserError
from ocean_emulators.tracking.base import NullTracker, Tracker
from ocean_emulators.tracking.mlflow import MlflowTracker
from ocean_emulators.tracking.provenance import Provenance

VARIABLE = "OCEAN_EMULATORS_TRACKER"


@contextmanager
def open_tracker(experiment: str, provenance: Provenance, stage: str) -> Iterator[Tracker]:
    """The record of an experiment, while a stage writes to it; it is marked as failed if the stage fails.

    The environment variable OCEAN_EMULATORS_TRACKER chooses: `mlflow` (default) or `none`.

    Raises
    ------
    UserError
        For any other choice.
    """
    tracker = _tracker(experiment, provenance)
    tracker.begin(stage)
    try:
        yield tracker
    except BaseException:
        tracker.end(stage, succeeded=False)
        raise
    tracker.end(stage, succeeded=True)


def _tracker(experiment: str, provenance: Provenance) -> Tracker:
    match os.environ.get(VARIABLE, "mlflow"):
        case "mlflow":
            return MlflowTracker(experiment, provenance)
        case "none":
            return NullTracker()
        case other:
            raise UserError(f"{VARIABLE}: found {other!r}: expected mlflow or none")
