"""Reads the rows of a packed store one by one, as statistics are taken of them."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from ocean_emulators.datasets.store.packed_store import PackedStore, open_store
from ocean_emulators.parallel import Opened

_BYTES_READ = 16 * 2**20


def opened(store: PackedStore) -> Opened[PackedStore]:
    """A store as workers have it open."""
    return Opened(partial(open_store, store.path.absolute()), store)


def rows_one_by_one(store: PackedStore, times: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
    """Rows [cell], physical units, read some at a time where they follow one another."""
    at_once = max(1, _BYTES_READ // (4 * int(store.cells_per_channel.sum())))
    runs = np.split(np.asarray(times), np.flatnonzero(np.diff(times) != 1) + 1)
    for run in runs:
        for first in range(int(run[0]), int(run[-1]) + 1, at_once):
            yield from store.rows(first, min(first + at_once, int(run[-1]) + 1))


def bytes_of_reading(n_cells: int) -> int:
    """Rows as they are stored, decoded and put together, and those before them, which are not given back at once."""
    return 5 * max(_BYTES_READ, 4 * n_cells)
