"""Opens the record of an experiment, and has it brought to the trackers that the user has chosen."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ocean_emulators.config.base import did_you_mean
from ocean_emulators.errors import UserError
from ocean_emulators.files import writing
from ocean_emulators.tracking.base import TRACKERS, Tracker
from ocean_emulators.tracking.delivery import Courier, Delivery
from ocean_emulators.tracking.environment import describe_environment
from ocean_emulators.tracking.machine import sampling
from ocean_emulators.tracking.provenance import Provenance
from ocean_emulators.tracking.record import FOLDER
from ocean_emulators.tracking.writing import Record, writing_record

VARIABLE = "OCEAN_EMULATORS_TRACKER"
DEFAULT = "mlflow"
NONE = "none"
_PATIENCE_S, _HURRY_S = 30.0, 5.0
"""how long trackers may take for the rest, at the end of a stage, and of one that was stopped"""


def chosen_trackers(home: Path) -> dict[str, Tracker]:
    """The trackers that OCEAN_EMULATORS_TRACKER names for the project `home`, such as `mlflow,wandb`; `none` is none.

    Raises
    ------
    UserError
        For a name that is not known.
    """
    names = [name.strip() for name in (os.environ.get(VARIABLE) or DEFAULT).split(",")]
    for name in names:
        if name != NONE and name not in TRACKERS:
            raise UserError(f"{VARIABLE}: found {name!r}: no such tracker; {did_you_mean(name, [*TRACKERS, NONE])}")
    return {name: TRACKERS[name](home) for name in names if name != NONE}


def require_trackers(home: Path) -> None:
    """Find out before any work what would keep its record from being written, or a tracker from ever taking it.

    Raises
    ------
    UserError
        If there is something.
    """
    with writing(home / FOLDER):
        (home / FOLDER).mkdir(exist_ok=True)
    for tracker in chosen_trackers(home).values():
        tracker.require()


@contextmanager
def open_record(experiment: str, provenance: Provenance, home: Path) -> Iterator[Record]:
    """The record of an experiment in the project `home`, while a process writes to it; trackers get it at the same time.

    Raises
    ------
    UserError
        If nothing can be written there, or for a tracker that is not known.
    """
    trackers = chosen_trackers(home)
    with writing_record(experiment, provenance, home) as record:
        record.tag(provenance.tags())
        describe_environment(record)
        couriers = [Courier(Delivery(name, tracker, record.run, record.about)) for name, tracker in trackers.items()]
        record.listeners += [courier.tell for courier in couriers]
        patience = _HURRY_S
        try:
            with sampling(record):
                yield record
            patience = _PATIENCE_S
        finally:
            for courier in couriers:
                courier.finish(patience)
