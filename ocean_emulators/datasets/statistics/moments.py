"""Means and standard deviations over wet cells and times, from sums that can be taken in parts."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add

import numpy as np
from tqdm import tqdm

from ocean_emulators.datasets.statistics.reading import bytes_of_reading, opened, rows_one_by_one
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.parallel import Resources, open_pool

_TIMES_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums from which means and standard deviations follow. Those of two sets of times add up to those of both.

    They are float64, and of the distance from some value near the mean (`shift`): variances that are small beside the mean
    survive.
    """

    shift: np.ndarray
    """[channel], physical units"""
    cells: np.ndarray
    """[channel], number of wet cells"""
    n_times: int
    n_changes: int
    sums: np.ndarray
    """[4, channel]: of x - shift, of its square, of the change over one step, of its square"""

    @classmethod
    def of(
        cls, rows: Iterable[np.ndarray], before: np.ndarray | None, shift: np.ndarray, cells: np.ndarray
    ) -> "Moments":
        """Of rows [cell] that follow one another; `before` is the row before the first, if there is one."""
        ends = np.cumsum(cells)
        totals = np.zeros((4, int(ends[-1])))
        n_times, n_changes = 0, 0
        for row in rows:
            for channel, end in enumerate(ends):
                part = slice(end - cells[channel], end)
                x = row[part].astype("f8")
                shifted = x - shift[channel]
                totals[0, part] += shifted
                totals[1, part] += shifted**2
                if before is not None:
                    change = x - before[part]
                    totals[2, part] += change
                    totals[3, part] += change**2
            n_changes += before is not None
            n_times += 1
            before = row
        return cls(shift, cells, n_times, n_changes, np.add.reduceat(totals, ends - cells, axis=1))

    def __add__(self, other: "Moments") -> "Moments":
        assert np.array_equal(self.shift, other.shift)
        return replace(
            self,
            n_times=self.n_times + other.n_times,
            n_changes=self.n_changes + other.n_changes,
            sums=self.sums + other.sums,
        )

    def summary(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, standard deviation, and standard deviation of the change, each [channel]."""
        n, n_changes = self.n_times * self.cells, max(self.n_changes, 1) * self.cells
        offset = self.sums[0] / n
        std = np.sqrt(np.maximum(self.sums[1] / n - offset**2, 0))
        change = np.sqrt(np.maximum(self.sums[3] / n_changes - (self.sums[2] / n_changes) ** 2, 0))
        return self.shift + offset, std, change


def moments_of(store: PackedStore, times: range, resources: Resources) -> Moments:
    """Of some times of a store, each read once.

    Raises
    ------
    UserError
        If the memory limit is too low, or a file of the store is damaged.
    """
    cells = store.cells_per_channel
    first = store.rows(times.start, times.start + 1)[0].astype("f8")
    shift = np.add.reduceat(first, np.cumsum(cells) - cells) / cells
    n_cells = int(cells.sum())
    starts = range(times.start, times.stop, _TIMES_AT_ONCE)
    held = 8 * 4 * n_cells + bytes_of_reading(n_cells)
    with open_pool(resources, opened(store), held, "the sums over one block of times") as pool:
        parts = pool.map(partial(_moments_of_block, times=times, shift=shift), starts)
        return reduce(add, tqdm(parts, "moments", len(starts), unit="block", disable=None))


def _moments_of_block(store: PackedStore, start: int, times: range, shift: np.ndarray) -> Moments:
    before = store.rows(start - 1, start)[0] if start > times.start else None
    stop = min(start + _TIMES_AT_ONCE, times.stop)
    return Moments.of(rows_one_by_one(store, range(start, stop)), before, shift, store.cells_per_channel)
