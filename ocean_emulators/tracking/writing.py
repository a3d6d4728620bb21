"""Writes the record of an experiment."""

import hashlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from ocean_emulators.errors import Interrupted, UserError
from ocean_emulators.files import copy, explain, fsync, replacing, sha256, writing
from ocean_emulators.tracking.events import Begin, End, Event, File, Metrics, Model, Tags, Text, What, to_line
from ocean_emulators.tracking.masking import hide
from ocean_emulators.tracking.provenance import Provenance
from ocean_emulators.tracking.record import About, Contents, EventReader, RunFolder, from_line, now

_SOON_S = 2.0
_NOT_ALLOWED = re.compile(r"[^\w\-. :/]")
_LONGEST_NAME = 250


class Record:
    """The record of an experiment while a process writes to it; usable from several threads.

    What can't be written, as where the disk is full, is told once, and is no reason to end the work: whatever is told again
    later, and every stage's results are, is then written.
    """

    def __init__(self, run: RunFolder, about: About) -> None:
        """Go on with what the folder holds; its lock must be held."""
        self.run, self.about = run, about
        self.listeners: list[Callable[[], None]] = []
        """called after each event"""
        self._contents, self._end = _read(run)
        self._writing, self._told = threading.RLock(), False
        with writing(run.events):
            self._file = os.open(run.events, os.O_WRONLY | os.O_CREAT, 0o666)
            os.ftruncate(self._file, self._end)  # what a process that was killed had begun to write
        if self._contents.running:
            self._append(End(self._contents.running, "killed"), self._contents.last)

    def close(self) -> None:
        """Have all on the disk, and write no more."""
        with suppress(OSError):
            os.fsync(self._file)
            fsync(self.run.folder)
        os.close(self._file)

    def stages_done(self) -> set[str]:
        """The stages whose results this record holds."""
        return set(self._contents.done)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """While a stage writes to the record, which then says how it ended."""
        self._append(Begin(name))
        try:
            yield
        except BaseException as error:
            failed = isinstance(error, Exception) and not isinstance(error, Interrupted)
            self._append(End(name, "failed" if failed else "stopped"))
            raise
        self._append(End(name, "done"))

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Numbers at a step: an epoch, a batch, or a lead in days. What is held at that step already stays."""
        self._append(Metrics({valid_name(name): float(value) for name, value in metrics.items()}, int(step)))

    def log_file(self, path: Path, folder: str) -> None:
        """A small file: figure, table, configuration. It is copied."""
        self._put(f"{folder}/{path.name}", sha256(path), lambda place: copy(path, place))

    def log_text(self, text: str | bytes, path: str) -> None:
        """A file of that text, at `folder/name`."""
        # Text of whatever encoding, such as the changes of a file, stays as it is where it holds no secret.
        content = hide(text.decode(errors="surrogateescape") if isinstance(text, bytes) else text)
        data = content.encode(errors="surrogateescape")

        def write(place: Path) -> None:
            with replacing(place) as file:
                file.write(data)

        self._put(path, hashlib.sha256(data).hexdigest(), write)

    def log_model(self, checkpoint: Path) -> None:
        """The checkpoint that is handed on: the record knows it by its content, and does not copy it."""
        with checkpoint.open("rb") as file:
            md5 = hashlib.file_digest(file, "md5").hexdigest()
        self._append(Model(str(checkpoint), sha256(checkpoint), md5))

    @property
    def tags(self) -> dict[str, str]:
        """What it can be looked up by, as it is known now."""
        return self.about.tags | self._contents.tags

    @property
    def described(self) -> bool:
        """Whether there is a text that a reader sees first."""
        return self._contents.text is not None

    def describe(self, text: str) -> None:
        """What a reader of the record sees first, Markdown."""
        self._append(Text(hide(text)))

    def tag(self, tags: Mapping[str, str]) -> None:
        """What to look the experiment up by."""
        known = self.tags
        self._append(Tags({name: value for name, value in hide(dict(tags)).items() if known.get(name) != value}))

    def _put(self, path: str, digest: str, write: Callable[[Path], None]) -> None:
        what, place = File(path, digest), self.run.files / path
        with self._writing:
            if self._contents.news(what) is None and place.is_file():
                return
            try:
                write(place)
            except UserError as error:
                self._tell(str(error))
                return
            self._append(what)

    def _append(self, what: What, at: int | None = None) -> None:
        with self._writing:
            news = self._contents.news(what)
            if news is None:
                return
            event = Event(now() if at is None else at, news)
            line = to_line(event)
            try:
                written = os.pwrite(self._file, line, self._end)
                if written < len(line):
                    os.pwrite(self._file, line[written:], self._end + written)  # says why it was not all
            except OSError as error:
                with suppress(OSError):
                    os.ftruncate(self._file, self._end)
                self._tell(explain(error, self.run.events))
                return
            self._end += len(line)
            self._contents.add(event)
        for listener in self.listeners:
            listener()

    def _tell(self, what: str) -> None:
        if not self._told:
            print(f"warning: the record takes nothing: {what}; the work goes on", file=sys.stderr, flush=True)
        self._told = True


def _read(run: RunFolder) -> tuple[Contents, int]:
    """What a record holds, and how many bytes its whole lines are."""
    contents, damaged = Contents(), 0
    with writing(run.events), EventReader(run) as reader:
        while lines := reader.lines(1000):
            for line in lines:
                event = from_line(line)
                damaged += event is None
                if event:
                    contents.add(event)
        if damaged:
            print(f"warning: {run.events}: {damaged} line(s) are damaged and left out", file=sys.stderr, flush=True)
        return contents, reader.end


@contextmanager
def writing_record(experiment: str, provenance: Provenance, home: Path) -> Iterator[Record]:
    """The record of an experiment, begun or gone on with; another process that writes to it is waited for.

    Raises
    ------
    UserError
        If nothing can be written there, or what is there is damaged.
    """
    run = RunFolder.of(provenance.key, home)
    with writing(run.folder):
        run.folder.mkdir(parents=True, exist_ok=True)
    with _alone(run):
        about = run.about()
        if about is None:
            about = About.of(experiment, provenance)
            run.write_about(about)
        with closing(Record(run, about)) as record:
            yield record


@contextmanager
def _alone(run: RunFolder) -> Iterator[None]:
    lock = FileLock(run.lock)
    with writing(run.lock):
        try:
            lock.acquire(timeout=_SOON_S)
        except Timeout:
            print(f"another process writes the record {run.folder}: waiting for it", file=sys.stderr, flush=True)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@cache
def valid_name(name: str) -> str:
    """A metric's name that all trackers take: letters, digits and `_-. :/`, as a path without empty parts."""
    parts = _NOT_ALLOWED.sub("_", name).split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))[:_LONGEST_NAME] or "_"
