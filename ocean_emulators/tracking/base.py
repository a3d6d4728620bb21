"""What a tracker can do, and the registry of them: a module each."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from ocean_emulators.registry import Registry
from ocean_emulators.tracking.events import Event
from ocean_emulators.tracking.record import About


class Copy(Protocol):
    """The copy of a record that a tracker keeps."""

    @property
    def id(self) -> str:
        """What the tracker calls it."""
        ...

    def take(self, events: Sequence[Event], first: int) -> None:
        """Events in their order; `first` is the number of the first one in the record.

        They may have been taken before, by a process that could not note it any more: nothing may stand there twice.
        """
        ...

    def close(self) -> None:
        """It takes no more, for now."""
        ...


class Tracker(Protocol):
    """A place that keeps copies of records."""

    @property
    def address(self) -> str:
        """What tells the place from others; may hold a password."""
        ...

    def require(self) -> None:
        """Find out quickly, and without a change, what would keep the place from ever taking a record.

        A server that does not answer now is no such thing.

        Raises
        ------
        UserError
            If there is something.
        """
        ...

    def open(self, about: About, files: Path, known: str | None) -> Copy:
        """The copy of a record, whose files are in the folder `files`: the `known` one, if it is still there, or a new one."""
        ...


TRACKERS: Registry[Callable[[Path], Tracker]] = Registry("tracker", "ocean_emulators.tracking")
"""By name, what makes a tracker for the project in a folder; it does not look at the place yet."""
