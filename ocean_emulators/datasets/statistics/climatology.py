"""The climatology: the mean annual cycle of every wet cell, in day-of-year bins one time step long."""

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from ocean_emulators.datasets.config import Period
from ocean_emulators.datasets.statistics.reading import bytes_of_reading, opened, rows_one_by_one
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.errors import UserError
from ocean_emulators.ocean import calendar
from ocean_emulators.parallel import Resources, open_pool


def times_by_bin(store: PackedStore, train: Period) -> list[np.ndarray]:
    """The numbers of the times of the training period that fall into each day-of-year bin.

    Raises
    ------
    UserError
        If a bin has none.
    """
    times = store.indices(train, "train")
    bins, n_bins = calendar.day_of_year_bins(store.time[times.start : times.stop], store.step_days)
    by_bin = [times.start + np.flatnonzero(bins == number) for number in range(n_bins)]
    empty = sum(not len(members) for members in by_bin)
    if empty:
        raise UserError(
            f"data.periods.train: {train.start} to {train.end} has no data in {empty} of the {n_bins} day-of-year bins: a "
            "climatology needs at least one whole year"
        )
    return by_bin


def mean_by_bin(store: PackedStore, by_bin: Sequence[np.ndarray], resources: Resources) -> np.ndarray:
    """Mean over the times of each bin, [day-of-year bin, cell], physical units, float32; as large as a year of the data.

    Raises
    ------
    UserError
        If the memory limit is too low, or a file of the store is damaged.
    """
    n_cells = int(store.cells_per_channel.sum())
    held = 8 * n_cells + 4 * n_cells + bytes_of_reading(n_cells)
    with open_pool(resources, opened(store), held, "the climatology", kept=4 * n_cells * len(by_bin)) as pool:
        climatology = np.empty((len(by_bin), n_cells), "f4")
        means = tqdm(pool.map(_mean_of_times, by_bin), "climatology", len(by_bin), unit="bin", disable=None)
        for number, mean in enumerate(means):
            climatology[number] = mean
        return climatology


def _mean_of_times(store: PackedStore, times: np.ndarray) -> np.ndarray:
    total = np.zeros(int(store.cells_per_channel.sum()))
    for row in rows_one_by_one(store, times):
        total += row
    mean: np.ndarray = (total / len(times)).astype("f4")
    return mean
