"""Opens the record of an experiment with the tracker that the user has chosen."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ocean_emulators.tracking.base import TRACKERS, Tracker
from ocean_emulators.tracking.provenance import Provenance

VARIABLE = "OCEAN_EMULATORS_TRACKER"
DEFAULT = "mlflow"


@contextmanager
def open_tracker(experiment: str, provenance: Provenance, stage: str, home: Path) -> Iterator[Tracker]:
    """The record of an experiment, while a stage writes to it; it is marked as failed if the stage fails.

    The environment variable OCEAN_EMULATORS_TRACKER chooses: `mlflow` (default) or `none`. `home` is the project's folder.

    Raises
    ------
    UserError
        For any other choice.
    """
    tracker = TRACKERS.get_or_refuse(os.environ.get(VARIABLE, DEFAULT), VARIABLE)(experiment, provenance, home)
    tracker.begin(stage)
    try:
        yield tracker
    except BaseException:
        with suppress(Exception):  # a record that fails too must not hide why the stage did
            tracker.end(stage, succeeded=False)
        raise
    tracker.end(stage, succeeded=True)
