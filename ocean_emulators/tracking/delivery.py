"""Brings a record to a tracker: each event once, in order, whenever the tracker answers."""

import json
import sys
import threading
from contextlib import closing, suppress
from dataclasses import asdict, dataclass

from filelock import FileLock

from ocean_emulators.errors import brief, mask
from ocean_emulators.files import digest, write_text
from ocean_emulators.tracking.base import Copy, Tracker
from ocean_emulators.tracking.events import Event, from_line
from ocean_emulators.tracking.record import About, EventReader, RunFolder

_AT_ONCE = 200
"""events that are handed over together"""
_LOCKED_S = 60.0
_GATHER_S = 1.0
"""how long events are gathered before they are handed over"""
_PAUSE_S = (1.0, 60.0)
"""shortest and longest pause between attempts"""
_LOST_S = 5.0
"""how long the end of the work may be put off for a tracker that did not answer before"""


@dataclass(frozen=True)
class Sent:
    """How far a copy has come."""

    copy: str | None = None
    """what the tracker calls it"""
    events: int = 0


class Delivery:
    """Of one record to one tracker."""

    def __init__(self, name: str, tracker: Tracker, run: RunFolder, about: About) -> None:
        """`name` is that of the kind of tracker."""
        self.name, self.tracker, self.run, self._about = name, tracker, run, about
        self._note = run.folder / f"{name}-{digest(tracker.address)[:8]}.sent"
        self._copy: Copy | None = None
        self._reader, self._read = EventReader(run), 0

    @property
    def place(self) -> str:
        """The tracker, for messages."""
        return f"{self.name} ({mask(self.tracker.address)})"

    def deliver(self) -> int:
        """Hand over what the tracker has not had; returns how many events that were. Raises what the tracker raises."""
        try:
            # Another process may do the same.
            with FileLock(self._note.with_suffix(".lock"), timeout=_LOCKED_S):
                return self._deliver()
        except BaseException:
            self.close()  # so that the next attempt asks anew what is there
            raise

    def close(self) -> None:
        """Let go of the tracker and the files."""
        copy, self._copy = self._copy, None
        self._reader.close()
        if copy:
            copy.close()

    def _deliver(self) -> int:
        sent = self._sent()
        if self._copy is None or self._copy.id != sent.copy:
            self._copy = self.tracker.open(self._about, self.run.files, sent.copy)
        if self._copy.id != sent.copy:
            sent = self._save(Sent(self._copy.id, 0))
        self._go_to(sent.events)
        count = 0
        while events := self._next():
            self._copy.take(events, sent.events)
            count += len(events)
            sent = self._save(Sent(sent.copy, self._read))
        return count

    def _sent(self) -> Sent:
        try:
            return Sent(**json.loads(self._note.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return Sent()  # then all is sent again, which does no harm

    def _save(self, sent: Sent) -> Sent:
        write_text(self._note, json.dumps(asdict(sent)) + "\n")
        return sent

    def _go_to(self, number: int) -> None:
        if number < self._read:
            self._reader.close()
            self._reader, self._read = EventReader(self.run), 0
        while self._read < number and (lines := self._reader.lines(number - self._read)):
            self._read += len(lines)

    def _next(self) -> list[Event]:
        """The next events; lines that a failing disk has damaged are left out."""
        events: list[Event] = []
        while not events and (lines := self._reader.lines(_AT_ONCE)):
            self._read += len(lines)
            events = [event for line in lines if (event := from_line(line))]
        return events


def copies_of(run: RunFolder) -> list[str]:
    """What trackers call their copies of a record."""
    notes = (json.loads(note.read_text()) for note in sorted(run.folder.glob("*.sent")))
    return [note["copy"] for note in notes if note.get("copy")]


class Courier:
    """Delivers a record while it is being written, in a thread of its own: the work does not wait for a tracker.

    A tracker that fails is told of once, and tried again with growing pauses.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._news, self._over = threading.Event(), threading.Event()
        self._failing = self._told = False
        self._thread = threading.Thread(target=self._run, name=f"to {delivery.name}", daemon=True)
        self._thread.start()

    def tell(self) -> None:
        """There is something new."""
        self._news.set()

    def finish(self, patience_s: float) -> None:
        """Deliver the rest, for so long at most, and end."""
        self._over.set()
        self._news.set()
        self._thread.join(min(_LOST_S, patience_s) if self._failing else patience_s)
        if self._thread.is_alive() and not self._told:
            self._tell("takes longer than the work may wait for")

    def _run(self) -> None:
        pause = _PAUSE_S[0]
        with closing(self._delivery):
            last = False
            while not last:
                last = self._over.is_set()
                self._news.clear()
                try:
                    self._delivery.deliver()
                except Exception as error:  # of whatever store and connection
                    self._failing = True
                    self._tell(f"takes nothing: {mask(brief(error))}")
                    self._over.wait(pause)
                    pause = min(2 * pause, _PAUSE_S[1])
                    continue
                if self._failing:
                    print(f"{self._delivery.place} answers again, and has all", file=sys.stderr, flush=True)
                self._failing, pause = False, _PAUSE_S[0]
                if not last:
                    self._news.wait()
                    self._over.wait(_GATHER_S)

    def _tell(self, what: str) -> None:
        if not self._told:
            with suppress(OSError, ValueError):  # nobody reads it any more
                print(
                    f"WARNING: {self._delivery.place} {what}. The work goes on; its record is kept in "
                    f"{self._delivery.run.folder}, and what is missing there is sent as soon as it answers, or by "
                    "`ocean-emulators runs sync`",
                    file=sys.stderr,
                    flush=True,
                )
        self._told = True
