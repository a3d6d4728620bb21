"""Folders that are known to be whole: `manifest.json` names every file with its size and hash, and has a hash of its own.

Zarr reads a chunk that is not there as the fill value and most damage as other numbers. What is sealed is read as it was
written, or refused with the file and the way out.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import xarray as xr

from ocean_emulators.errors import UserError
from ocean_emulators.files import fsync, read_json, reading, replacing_folder, sha256, write_json, writing

MANIFEST = "manifest.json"


class Damaged(UserError):
    """A file of ours is not as it was written."""


def damaged(path: Path, what: str, stage: str) -> Damaged:
    """The error for a file that a stage made; `what` is wrong with it."""
    return Damaged(
        f"{path}: damaged: {what}. Bring it back with `dvc checkout --force`, or make it again with "
        f"`dvc repro --force {stage}`"
    )


def seal(folder: Path, about: Mapping[str, Any] | None = None, checksummed: Sequence[str] = ()) -> None:
    """List all files of a folder, and have them on the disk: from now on it is whole.

    Parameters
    ----------
    about: plain data that `require_sealed` gives back
    checksummed: patterns of names, such as `rows/c/*`, of large files that hold checksums which their reader looks at: of
        these, which are on the disk already, the size alone is listed, so that opening the folder does not read them
    """
    files = {}
    with writing(folder):
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            hashed = not any(fnmatch(name, pattern) for pattern in checksummed)
            if hashed:
                fsync(path)
            if path.is_file() and name != MANIFEST:
                files[name] = [path.stat().st_size, sha256(path) if hashed else None]
    write_json(folder / MANIFEST, {"about": dict(about or {}), "files": files})


def require_sealed(folder: Path, stage: str) -> dict[str, Any]:
    """What was said about a sealed folder, which is whole.

    Raises
    ------
    UserError
        If there is nothing, or a file is gone or not as it was written; `stage` is what makes it anew.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: nothing here; `dvc repro {stage}` makes it")
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise Damaged(
            f"{folder}: not whole: it has no {MANIFEST}. Bring it back with `dvc checkout --force`, or make it again with "
            f"`dvc repro --force {stage}`"
        )
    try:
        with reading(manifest):
            content = read_json(manifest)
    except ValueError as error:
        raise damaged(manifest, str(error), stage) from error
    for name, (size, sha) in content["files"].items():
        _require_unchanged(folder / name, size, sha, stage)
    return dict(content["about"])


def _require_unchanged(path: Path, size: int, sha: str | None, stage: str) -> None:
    if not path.is_file():
        raise damaged(path, "it is gone", stage)
    with reading(path):
        unchanged = path.stat().st_size == size and (sha is None or sha256(path) == sha)
    if not unchanged:
        raise damaged(path, "it is not what was written", stage)


@contextmanager
def sealing(place: Path, about: Mapping[str, Any] | None = None, checksummed: Sequence[str] = ()) -> Iterator[Path]:
    """A folder to be filled, which is then sealed (see `seal`) and takes the place of `place` in one step.

    If the block fails, `place` stays as it was, and nothing is left beside it.

    Raises
    ------
    UserError
        If the disk is full, or nothing may be written there.
    """
    with replacing_folder(place) as building:
        yield building
        seal(building, about, checksummed)


def write_sealed(dataset: xr.Dataset, path: Path, **settings: Any) -> None:
    """Write a dataset as a sealed Zarr store in the place of another; `settings` are those of `xr.Dataset.to_zarr`.

    Raises
    ------
    UserError
        If the disk is full, or nothing may be written there.
    """
    with sealing(path) as building:
        dataset.to_zarr(building, mode="w", **settings)


def open_sealed(path: Path, stage: str, **settings: Any) -> xr.Dataset:
    """Open a Zarr store that `write_sealed` or `sealing` made, lazily; `settings` are those of `xr.open_zarr`.

    Raises
    ------
    UserError
        See `require_sealed`.
    """
    require_sealed(path, stage)
    with reading(path):
        dataset: xr.Dataset = xr.open_zarr(path, **{"chunks": None, **settings})
    return dataset
