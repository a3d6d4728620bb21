"""Files that are there as a whole or not at all, whatever is killed when; and hashes that tell contents apart.

The one way in which this project writes what must not be lost or half written.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from ocean_emulators.errors import UserError

PARTIAL = ".partial"
"""What names of files and folders end in while they are written."""

_WAY_OUT = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or have the quota raised",
    errno.EFBIG: "have the limit on the size of files raised (`ulimit -f`)",
    errno.EROFS: "make it writable, or work in another folder",
    errno.EACCES: "get permission for it, or work in another folder",
    errno.EPERM: "get permission for it, or work in another folder",
    errno.EMFILE: "have the limit on open files raised (`ulimit -n`)",
    errno.ENFILE: "have the machine's limit on open files raised",
    errno.EIO: "look at the disk, which fails",
    errno.ENOTDIR: "move away what is in the place of a folder",
    errno.EEXIST: "move away what is in the place of a folder",
}
_MACHINE_ERRORS = {errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.EIO}


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
        with suppress(OSError):  # such as that the disk is read-only, which was said
            building.unlink(missing_ok=True)


@contextmanager
def replacing_folder(place: Path) -> Iterator[Path]:
    """A folder to be filled that takes the place of `place` in one step, once all its files are on the disk.

    If the block fails, `place` stays as it was, and nothing is left beside it.

    Raises
    ------
    UserError
        If the disk is full, or nothing may be written there.
    """
    building = place.with_name(place.name + PARTIAL)
    try:
        with writing(place):
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir(parents=True)
            yield building
            for path in (building, *building.rglob("*")):
                fsync(path)
            shutil.rmtree(place, ignore_errors=True)
            building.replace(place)
            fsync(place.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Put a text in the place of a file, in one step."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, content: Any) -> None:
    """Put plain data in the place of a file, with a hash by which `read_json` knows them to be whole."""
    write_text(path, _sealed_text(content))


def _sealed_text(content: Any) -> str:
    return json.dumps({"sha256": digest(content), "content": content}, indent=1) + "\n"


def read_json(path: Path) -> Any:
    """What `write_json` wrote.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is not as it was written.
    """
    text = path.read_bytes()
    try:
        content = json.loads(text)["content"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError("it can't be read") from error
    if text != _sealed_text(content).encode():
        raise ValueError("it contradicts its own hash")
    return content


def move_folder(finished: Path, place: Path) -> None:
    """Put a finished folder, whose files are on the disk, in the place of another; between file systems by a copy.

    Raises
    ------
    UserError
        If the disk is full, or nothing may be written there.
    """
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        if finished.stat().st_dev == place.parent.stat().st_dev:
            # In place of the other at once: in any other order, a failure would lose what is finished.
            shutil.rmtree(place, ignore_errors=True)
            finished.replace(place)
            fsync(place.parent)
            return
    with replacing_folder(place) as building:
        _copy_tree(finished, building)
    shutil.rmtree(finished, ignore_errors=True)


def move(finished: Path, place: Path) -> None:
    """Put a finished file or folder in the place of another.

    Raises
    ------
    UserError
        If the disk is full, or nothing may be written there.
    """
    if finished.is_dir():
        move_folder(finished, place)
        return
    copy(finished, place)
    finished.unlink()


def copy(finished: Path, place: Path) -> None:
    """As `move`, but what is finished stays where it is."""
    if finished.is_dir():
        with replacing_folder(place) as building:
            _copy_tree(finished, building)
        return
    with replacing(place) as file, finished.open("rb") as content:
        shutil.copyfileobj(content, file)


def _copy_tree(folder: Path, into: Path) -> None:
    """Not shutil's, which makes one list of all errors, without their numbers."""
    for path in sorted(folder.rglob("*")):
        place = into / path.relative_to(folder)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        else:
            shutil.copyfile(path, place)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn what the operating system says while something is written to `place` into one `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(explain(error, place, otherwise="mend that")) from error


reading = writing
"""The same where something is read."""


def explain(error: OSError, place: Path | None = None, otherwise: str = "") -> str:
    """An error of the operating system in one line: the file, what is wrong, and the way out (or `otherwise`)."""
    where = place or error.filename or "a file"
    what = error.strerror or str(error) or type(error).__name__
    way_out = _WAY_OUT.get(error.errno or 0, otherwise)
    return f"{where}: {what[0].lower() + what[1:]}" + (f"; {way_out}, and run it again" if way_out else "")


def is_machine_error(error: BaseException) -> TypeGuard[OSError]:
    """Whether reading failed for a reason that lies with the machine (permission, limits, the disk), not with the file."""
    return isinstance(error, OSError) and error.errno in _MACHINE_ERRORS


def fsync(path: str | os.PathLike[str]) -> None:
    """Have the content of a file, or the entries of a folder, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_all_but(wanted: Iterable[Path], folder: Path) -> None:
    """Remove what else is in a folder, such as what an earlier attempt left; the folders of what is wanted stay."""
    kept = {path for file in wanted for path in (file, *file.parents)}
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        if path not in kept:
            path.rmdir() if path.is_dir() else path.unlink()


def sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder and their names."""
    if path.is_file():
        return sha256(path)
    return digest(
        [[file.relative_to(path).as_posix(), sha256(file)] for file in sorted(path.rglob("*")) if file.is_file()]
    )


def digest(*parts: Any) -> str:
    """SHA-256 of plain data, the same wherever and whenever it is taken."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
