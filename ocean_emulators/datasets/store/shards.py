"""Reads the rows of a sharded Zarr array as memory maps, and checks them.

Zarr's own way costs several copies, and training reads rows all the time. This way knows one layout alone, which Zarr reads
as well: a file (shard) holds the encoded rows of consecutive times (or bins of the year), an index of (offset, bytes) pairs,
and the index's checksum. An encoded row is its values, little endian, and their CRC-32C.
"""

from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from ocean_emulators.files import reading
from ocean_emulators.sealing import Damaged, damaged

CHECKSUM = 4  # bytes of a CRC-32C
_PAIR = 16  # bytes of an (offset, bytes) pair of the index


@dataclass(frozen=True)
class Shards:
    """The files of an array [time, cell] whose chunks are single rows."""

    folder: Path
    """of the array"""
    n_times: int
    n_cells: int
    times_per_file: int
    dtype: np.dtype
    stage: str = "prepare"
    """the stage that makes them, for messages"""

    @property
    def n_files(self) -> int:
        """Number of files."""
        return -(-self.n_times // self.times_per_file)

    @property
    def row_bytes(self) -> int:
        """Length of an encoded row, its checksum included."""
        return self.n_cells * self.dtype.itemsize + CHECKSUM

    def file(self, number: int) -> Path:
        """Where Zarr keeps a shard."""
        return self.folder / "c" / str(number) / "0"

    def times(self, number: int) -> range:
        """The times of a file."""
        first = number * self.times_per_file
        return range(first, min(first + self.times_per_file, self.n_times))

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

    def __getitem__(self, key: tuple[int, slice]) -> np.ndarray:
        """Some cells of one row, as of an array that is held: `shards[5, :100]`. The whole row is checked."""
        row, cells = key
        return self.read(row, row + 1)[0][0, cells]

    def _read_file(self, number: int, inside: slice) -> np.ndarray:
        path = self.file(number)
        if not path.is_file():
            raise self._damaged(path, "it is gone")
        try:
            with reading(path):
                # Copy on write: torch wants arrays that it could write to.
                content = np.memmap(path, np.uint8, mode="c")
        except ValueError as error:
            raise self._damaged(path, "it is empty") from error
        offset = self._offset(content, path, inside)
        rows: np.ndarray = np.ndarray(
            (inside.stop - inside.start, self.row_bytes), np.uint8, content, offset, (self.row_bytes, 1)
        )
        for position, row in enumerate(rows, start=inside.start):
            if checksum(row[:-CHECKSUM]) != row[-CHECKSUM:].tobytes():
                row_number = number * self.times_per_file + position
                raise self._damaged(path, f"the checksum of row {row_number} is wrong")
        shape, strides = (len(rows), self.n_cells), (self.row_bytes, self.dtype.itemsize)
        return np.ndarray(shape, self.dtype, content, offset, strides)

    def _offset(self, content: np.ndarray, path: Path, inside: slice) -> int:
        """Where the rows asked for begin; they must follow each other, as they were written."""
        index_bytes = _PAIR * self.times_per_file
        if len(content) < index_bytes + CHECKSUM:
            raise self._damaged(path, f"it has {len(content)} bytes, fewer than its index")
        index = np.array(content[-index_bytes - CHECKSUM : -CHECKSUM])
        if checksum(index) != content[-CHECKSUM:].tobytes():
            raise self._damaged(path, "the checksum of its index is wrong")
        pairs = index.view("<u8").reshape(-1, 2)[inside]
        expected = pairs[0, 0] + self.row_bytes * np.arange(len(pairs), dtype="u8")
        if not ((pairs[:, 1] == self.row_bytes).all() and (pairs[:, 0] == expected).all()):
            raise self._damaged(path, "its index does not describe rows that follow each other")
        if int(pairs[-1].sum()) > len(content) - index_bytes - CHECKSUM:
            raise self._damaged(path, "it is cut short")
        return int(pairs[0, 0])

    def _damaged(self, path: Path, what: str) -> Damaged:
        return damaged(path, what, self.stage)


def checksum(values: np.ndarray) -> bytes:
    """CRC-32C of an array's bytes, little endian, as Zarr writes it."""
    read_only = values.view()
    read_only.setflags(write=False)
    return int(google_crc32c.value(read_only)).to_bytes(CHECKSUM, "little")
