"""The folder of an unfinished preparation, which can be resumed however it was interrupted or damaged."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from ocean_emulators.datasets.store.shards import Shards
from ocean_emulators.datasets.store.writing import write_file
from ocean_emulators.files import read_json, reading, write_json, writing
from ocean_emulators.sealing import Damaged

_ABANDONED_SECONDS = 14 * 86400


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait for other preparations of the project: both might write to one folder, and would take twice the memory."""
    held = FileLock(lock)
    with writing(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(timeout=0)
        except Timeout:
            print("waiting for another preparation to end", flush=True)
            held.acquire()
    try:
        yield
    finally:
        held.release()


def put_aside(path: Path) -> None:
    """Remove a damaged file of unfinished work, which is done again: it is no result, so nothing is lost but time."""
    print(f"warning: {path} is damaged; it is made again", flush=True)
    path.unlink(missing_ok=True)


class WorkFolder:
    """Where a preparation works; its name tells its configuration, source and code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def stores(self) -> Path:
        """The folder that becomes the result."""
        return self.path / "stores"

    @property
    def _begun(self) -> Path:
        return self.path / "begun.json"

    def _record(self, block: int) -> Path:
        return self.path / f"block-{block:05d}.json"

    def begun(self) -> dict[str, Any] | None:
        """What was written when the work began; None if it has not, or if that is damaged."""
        return self._read(self._begun) if self.stores.is_dir() else None

    def begin(self, about: dict[str, Any]) -> None:
        """From now on this work can be resumed."""
        with writing(self.stores):
            self.stores.mkdir(parents=True, exist_ok=True)
        write_json(self._begun, about)

    def record(self, block: int) -> dict[str, Any] | None:
        """What was recorded of a block; None if it is not done, or if that is damaged."""
        return self._read(self._record(block))

    def write_record(self, block: int, about: dict[str, Any]) -> None:
        """A block is done, and its files are on the disk."""
        write_json(self._record(block), about)

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            with reading(path):
                return dict(read_json(path)) if path.is_file() else None
        except ValueError:
            put_aside(path)
            return None

    def kept(self, name: str, shape: tuple[int, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
        """An array of float32 that is made once, and kept in a file of which only what is needed is read."""
        shards = Shards(self.path / name, shape[0], int(np.prod(shape[1:])), shape[0], np.dtype("<f4"))
        if not shards.file(0).is_file():
            write_file(shards, 0, make().reshape(shape[0], -1))
        try:
            (rows,) = shards.read(0, shape[0])
        except Damaged:
            put_aside(shards.file(0))
            return self.kept(name, shape, make)
        return rows.reshape(shape)

    def discard(self) -> None:
        """Remove the folder; whatever is left of it, should this be interrupted, is not resumed."""
        self._begun.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)  # a cluster's workers may still write to it


def clear(scratch: Path) -> None:
    """Remove the work of other preparations that was not resumed for two weeks: it may be as large as a store."""
    for work in scratch.glob("prepare-*"):
        if time.time() - max(path.stat().st_mtime for path in (work, *work.iterdir())) > _ABANDONED_SECONDS:
            WorkFolder(work).discard()
