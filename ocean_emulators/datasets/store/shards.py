"""Writes the rows of a sharded Zarr array, reads them as memory maps, and checks them.

Zarr's own ways cost several copies, in reading and in writing. Training reads rows all the time and preparation writes
terabytes, so these ways have to be fast. They know one layout alone, which Zarr reads as well: a file (shard) holds the encoded
rows of consecutive times, an index of (offset, bytes) pairs, and the index's checksum. An encoded row is its values, little
endian, and their CRC-32C.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from ocean_emulators.errors import UserError

_CHECKSUM = 4  # bytes of a CRC-32C
_PAIR = 16  # bytes of an (offset, bytes) pair of the index
_ABSENT = 2**64 - 1  # in the index: no such row


@dataclass(frozen=True)
class Shards:
    """The files of an array [time, cell] whose chunks are single rows."""

    folder: Path
    """of the array"""
    n_times: int
    n_cells: int
    times_per_file: int
    dtype: np.dtype

    @property
    def row_bytes(self) -> int:
        """Length of an encoded row, its checksum included."""
        return self.n_cells * self.dtype.itemsize + _CHECKSUM

    def file(self, number: int) -> Path:
        """Where Zarr keeps a shard."""
        return self.folder / "c" / str(number) / "0"

    def write(self, number: int, rows: np.ndarray) -> Path:
        """Write a file with its rows [time, cell], all of them, have it on the disk, and return where it is."""
        first = number * self.times_per_file
        assert rows.shape == (min(self.times_per_file, self.n_times - first), self.n_cells), rows.shape
        assert rows.dtype == self.dtype, rows.dtype
        index = np.full((self.times_per_file, 2), _ABSENT, "<u8")
        index[: len(rows), 0] = self.row_bytes * np.arange(len(rows))
        index[: len(rows), 1] = self.row_bytes
        path = self.file(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for part in (*rows, index):
                part = np.ascontiguousarray(part)
                file.write(part.data)
                file.write(_checksum(part))
            file.flush()
            os.fsync(file.fileno())
        return path

    def read(self, start: int, stop: int) -> list[np.ndarray]:
        """Values of times `start` to `stop - 1` without a copy: an array [time, cell] for each file that they lie in.

        Raises
        ------
        UserError
            If a file is gone, cut short, or holds a row that its checksum contradicts.
        """
        assert 0 <= start < stop <= self.n_times, (start, stop, self.n_times)
        first, last = start // self.times_per_file, (stop - 1) // self.times_per_file
        parts = []
        for number in range(first, last + 1):
            begin = number * self.times_per_file
            inside = slice(max(start - begin, 0), min(stop - begin, self.times_per_file))
            parts.append(self._read_file(number, inside))
        return parts

    def _read_file(self, number: int, inside: slice) -> np.ndarray:
        path = self.file(number)
        try:
            # Copy on write: torch wants arrays that it could write to.
            content = np.memmap(path, np.uint8, mode="c")
        except (OSError, ValueError) as error:
            raise damaged(path, str(error)) from error
        offset = self._offset(content, path, inside)
        rows: np.ndarray = np.ndarray(
            (inside.stop - inside.start, self.row_bytes), np.uint8, content, offset, (self.row_bytes, 1)
        )
        for position, row in enumerate(rows, start=inside.start):
            if _checksum(row[:-_CHECKSUM]) != row[-_CHECKSUM:].tobytes():
                time = number * self.times_per_file + position
                raise damaged(path, f"the checksum of time number {time} is wrong")
        shape, strides = (len(rows), self.n_cells), (self.row_bytes, self.dtype.itemsize)
        return np.ndarray(shape, self.dtype, content, offset, strides)

    def _offset(self, content: np.ndarray, path: Path, inside: slice) -> int:
        """Where the rows asked for begin; they must follow each other, as they were written."""
        index_bytes = _PAIR * self.times_per_file
        if len(content) < index_bytes + _CHECKSUM:
            raise damaged(path, f"it has {len(content)} bytes, fewer than its index")
        index = np.array(content[-index_bytes - _CHECKSUM : -_CHECKSUM])
        if _checksum(index) != content[-_CHECKSUM:].tobytes():
            raise damaged(path, "the checksum of its index is wrong")
        pairs = index.view("<u8").reshape(-1, 2)[inside]
        expected = pairs[0, 0] + self.row_bytes * np.arange(len(pairs), dtype="u8")
        if not ((pairs[:, 1] == self.row_bytes).all() and (pairs[:, 0] == expected).all()):
            raise damaged(path, "its index does not describe rows that follow each other")
        if int(pairs[-1].sum()) > len(content) - index_bytes - _CHECKSUM:
            raise damaged(path, "it is cut short")
        return int(pairs[0, 0])


def _checksum(values: np.ndarray) -> bytes:
    """CRC-32C of an array's bytes, little endian, as Zarr writes it."""
    read_only = values.view()
    read_only.setflags(write=False)
    return int(google_crc32c.value(read_only)).to_bytes(_CHECKSUM, "little")


def damaged(path: Path, what: str) -> UserError:
    """The error for a file of a prepared store that is not as it was written."""
    return UserError(
        f"{path}: damaged: {what}. Bring the prepared data back with `dvc checkout --force`, or make them again with "
        "`dvc repro --force prepare`"
    )
