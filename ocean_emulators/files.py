"""Files that are there as a whole or not at all, whatever is killed when; and hashes that tell contents apart.

The one way in which this project writes what must not be lost or half written.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ocean_emulators.errors import UserError

PARTIAL = ".partial"
"""What names of files and folders end in while they are written."""

_WAY_OUT = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or have the quota raised",
    errno.EFBIG: "have the limit on the size of files raised (`ulimit -f`)",
    errno.EROFS: "make it writable, or work in another folder",
    errno.EACCES: "make it writable, or work in another folder",
    errno.EPERM: "make it writable, or work in another folder",
}


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of `path` in one step, once it is on the disk.

    If the block fails, `path` stays as it was, and nothing is left beside it.

    Raises
    ------
    UserError
        If the disk is full, or nothing may be written there.
    """
    building = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with building.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(building, path)
            fsync(path.parent)
    finally:
        building.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Put a text in the place of a file, in one step."""
    with replacing(path) as file:
        file.write(text.encode())


def move(finished: Path, place: Path) -> None:
    """Put a finished file or folder in the place of another; between file systems by a copy that is never taken for whole.

    Raises
    ------
    UserError
        If the disk is full, or nothing may be written there.
    """
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir():
            shutil.rmtree(place)
        try:
            finished.replace(place)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        building = place.with_name(place.name + PARTIAL)
        try:
            (shutil.copytree if finished.is_dir() else shutil.copyfile)(finished, building)
            building.replace(place)
        finally:
            remove(building)
        remove(finished)


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn what the operating system says while something is written to `place` into one `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(explain(error, place)) from error


def explain(error: OSError, place: Path | None = None) -> str:
    """An error of the operating system in one line: the file, what is wrong, and the way out where there is one."""
    where = place or error.filename or "a file"
    what = error.strerror or str(error) or type(error).__name__
    way_out = _WAY_OUT.get(error.errno or 0)
    return f"{where}: {what[0].lower() + what[1:]}" + (f"; {way_out}, and run it again" if way_out else "")


def fsync(path: str | os.PathLike[str]) -> None:
    """Have the content of a file, or the entries of a folder, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
