"""The record of an experiment: a folder of the project's, which is what happened. What trackers hold are copies of it."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ocean_emulators.errors import UserError
from ocean_emulators.files import read_json, write_json
from ocean_emulators.tracking.events import Begin, End, Event, File, Metrics, Model, Tags, Text, What, from_line
from ocean_emulators.tracking.masking import hide
from ocean_emulators.tracking.provenance import Provenance

FOLDER = "runs"
"""Of a project's records, below its home."""
_KEY_LETTERS = 16
"""of an experiment's key, in the name of its folder"""


@dataclass(frozen=True)
class About:
    """What an experiment is: written once, when its record begins."""

    id: str
    """of this record: another for the same experiment if it was removed and made again"""
    key: str
    """see `Provenance`"""
    name: str
    """of the experiment"""
    config: dict[str, Any]
    """the whole resolved experiment, without passwords"""
    tags: dict[str, str]
    """what it was made from, as it was known then"""
    begun: int
    """in milliseconds since 1970"""

    @classmethod
    def of(cls, experiment: str, provenance: Provenance) -> "About":
        """Of an experiment that begins now."""
        key = provenance.key
        identifier = f"{key[:_KEY_LETTERS]}-{secrets.token_hex(4)}"
        return cls(identifier, key, experiment, hide(provenance.config), hide(provenance.tags()), now())


@dataclass(frozen=True)
class RunFolder:
    """Where the record of an experiment lies."""

    folder: Path

    @classmethod
    def of(cls, key: str, home: Path) -> "RunFolder":
        """Of the experiment with that key, in the project `home`."""
        return cls(home / FOLDER / key[:_KEY_LETTERS])

    @property
    def events(self) -> Path:
        """A line for each `Event`, in the order in which they happened."""
        return self.folder / "events.jsonl"

    @property
    def files(self) -> Path:
        """Copies of the files that `File` events tell of."""
        return self.folder / "files"

    @property
    def lock(self) -> Path:
        """Held by the process that writes."""
        return self.folder / "lock"

    def write_about(self, about: About) -> None:
        """Say what the experiment is."""
        write_json(self._about, asdict(about))

    def about(self) -> About | None:
        """What the experiment is; None if the record has not begun.

        Raises
        ------
        UserError
            If that is damaged.
        """
        try:
            return About(**read_json(self._about))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise UserError(f"{self._about}: damaged: {error}; move the folder {self.folder} away") from error

    @property
    def _about(self) -> Path:
        return self.folder / "run.json"

    def contents(self) -> "Contents":
        """What the record holds now."""
        contents = Contents()
        with EventReader(self) as reader:
            for event in reader.rest():
                contents.add(event)
        return contents


def runs_in(home: Path) -> list[RunFolder]:
    """The records of a project, the newest first.

    Raises
    ------
    UserError
        If one is damaged.
    """
    begun: dict[RunFolder, int] = {}
    for folder in (home / FOLDER).glob("*/"):
        about = RunFolder(folder).about()
        if about:
            begun[RunFolder(folder)] = about.begun
    return sorted(begun, key=lambda run: begun[run], reverse=True)


class EventReader:
    """Reads the events of a record that have been written as a whole, also while others are being written."""

    def __init__(self, run: RunFolder) -> None:
        self._path = run.events
        self._file: BinaryIO | None = None
        self.end = 0
        """bytes that were read"""

    def __enter__(self) -> "EventReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        if self._file:
            self._file.close()
            self._file = None

    def lines(self, most: int) -> list[bytes]:
        """The next lines."""
        if self._file is None:
            if not self._path.is_file():
                return []
            self._file = self._path.open("rb")
            self._file.seek(self.end)
        found: list[bytes] = []
        while len(found) < most and (line := self._file.readline()).endswith(b"\n"):
            found.append(line)
            self.end += len(line)
        self._file.seek(self.end)
        return found

    def rest(self) -> Iterator[Event]:
        """All further events; lines that a failing disk has damaged are left out."""
        while lines := self.lines(1000):
            yield from (event for line in lines if (event := from_line(line)))


@dataclass
class Contents:
    """What a record holds."""

    done: set[str] = field(default_factory=set)
    """stages whose results it holds"""
    running: str | None = None
    """the stage that has begun and not ended"""
    last: int = 0
    """when something happened last, in milliseconds since 1970"""
    tags: dict[str, str] = field(default_factory=dict)
    """that were set after it began"""
    text: str | None = None
    model: str | None = None
    """SHA-256 of the checkpoint that was handed on last"""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 by path"""
    names: dict[int, frozenset[str]] = field(default_factory=dict)
    """of the metrics, by step"""
    _same: dict[frozenset[str], frozenset[str]] = field(default_factory=dict)
    """one object for all steps that have the same names: there may be millions of numbers"""

    def add(self, event: Event) -> None:
        """Take note of an event."""
        self.last = event.at
        match event.what:
            case Begin(stage):
                self.running = stage
            case End(stage, outcome):
                self.running = None
                if outcome == "done":
                    self.done.add(stage)
            case Metrics(values, step):
                names = self.names.get(step, frozenset()).union(values)
                self.names[step] = self._same.setdefault(names, names)
            case File(path, sha256):
                self.files[path] = sha256
            case Model(_, sha256):
                self.model = sha256
            case Text(text):
                self.text = text
            case Tags(tags):
                self.tags |= tags

    def news(self, what: What) -> What | None:
        """The part of what happens that is not held yet, so that what is told again stands there once."""
        match what:
            case Metrics(values, step):
                held = self.names.get(step)
                if not held:
                    return what if values else None
                new = {name: value for name, value in values.items() if name not in held}
                return Metrics(new, step) if new else None
            case File(path, sha256):
                return None if self.files.get(path) == sha256 else what
            case Model(_, sha256):
                return None if self.model == sha256 else what
            case Text(text):
                return None if self.text == text else what
            case Tags(tags):
                changed = {name: value for name, value in tags.items() if self.tags.get(name) != value}
                return Tags(changed) if changed else None
        return what


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
