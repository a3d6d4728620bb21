"""Normalisation statistics and the climatology, both of the training period and of wet cells alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from ocean_emulators.datasets.config import Period
from ocean_emulators.datasets.store import PackedStore
from ocean_emulators.errors import UserError
from ocean_emulators.ocean import calendar

_TIMES_AT_ONCE = 32


@dataclass(frozen=True)
class Statistics:
    """Per channel (prognostic, then forcing): over the wet cells and times of the training period, unweighted."""

    mean: np.ndarray
    """[channel], physical units"""
    std: np.ndarray
    """[channel], standard deviation in space and time"""
    change_std: np.ndarray
    """[channel], standard deviation in space and time of the change over one time step"""
    climatology: np.ndarray
    """[season, cell], mean over the years of each bin of the year; float32"""
    names: tuple[str, ...]
    """[channel]"""
    fingerprint: str
    """of the store and period that they were made from"""


def compute_statistics(store: PackedStore, period: Period) -> Statistics:
    """One pass over the training period.

    Raises
    ------
    UserError
        If the period has fewer than two times, leaves a season without data, or a channel does not vary.
    """
    times = store.indices(period, "train")
    bins, n_bins = calendar.season_bins(store.time[times.start : times.stop], store.step_days)
    counts = np.bincount(bins, minlength=n_bins)
    if not counts.all():
        raise UserError(
            f"data.periods.train: {period.start} to {period.end} has no data in {int((counts == 0).sum())} of the "
            f"{n_bins} seasons of the year: a climatology needs at least one whole year"
        )
    moments = _Moments(store, n_bins)
    for start in range(times.start, times.stop, _TIMES_AT_ONCE):
        stop = min(start + _TIMES_AT_ONCE, times.stop)
        moments.add(store.rows(start, stop), bins[start - times.start : stop - times.start])
    mean, std, change_std = moments.per_channel()
    names = tuple(c.name for c in store.channels)
    _require_variation(names, std, change_std)
    climatology = (moments.season_sum / counts[:, None]).astype("float32")
    return Statistics(mean, std, change_std, climatology, names, f"{store.fingerprint}:{period.start}:{period.end}")


def _require_variation(names: tuple[str, ...], std: np.ndarray, change_std: np.ndarray) -> None:
    for name, total, change in zip(names, std, change_std, strict=True):
        if not (total > 0 and change > 0):
            raise UserError(f"data: {name} does not vary over the training period; leave the field or level out")


class _Moments:
    """Sums over blocks of times, in float64 and about the first state, so that small variances survive."""

    def __init__(self, store: PackedStore, n_bins: int) -> None:
        self.counts = store.cells_per_channel
        self.offsets = np.cumsum([0, *self.counts[:-1]])
        self.season_sum = np.zeros((n_bins, int(self.counts.sum())))
        self.sums = np.zeros((4, len(self.counts)))
        self.n_times = 0
        self.first: np.ndarray | None = None
        self.last: np.ndarray | None = None

    def add(self, rows: np.ndarray, bins: np.ndarray) -> None:
        """Rows [time, cell] that follow the ones before without a gap, and their season bins [time]."""
        rows = rows.astype("f8")
        if self.first is None:
            self.first = np.repeat(self._per_channel(rows[0]) / self.counts, self.counts)
        np.add.at(self.season_sum, bins, rows)
        before = rows[:1] if self.last is None else self.last
        change = np.diff(np.concatenate([before, rows]), axis=0)
        shifted = rows - self.first
        for row, x in enumerate((shifted, shifted**2, change, change**2)):
            self.sums[row] += self._per_channel(x.sum(0))
        self.last = rows[-1:]
        self.n_times += len(rows)

    def per_channel(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, standard deviation, and standard deviation of the change, each [channel]."""
        assert self.first is not None
        n, n_changes = self.n_times * self.counts, max(self.n_times - 1, 1) * self.counts
        shift = self.sums[0] / n
        mean = self.first[self.offsets] + shift
        std = np.sqrt(np.maximum(self.sums[1] / n - shift**2, 0))
        change = np.sqrt(np.maximum(self.sums[3] / n_changes - (self.sums[2] / n_changes) ** 2, 0))
        return mean, std, change

    def _per_channel(self, cells: np.ndarray) -> np.ndarray:
        return np.add.reduceat(cells, self.offsets)


def write_statistics(statistics: Statistics, path: Path) -> None:
    """As one small Zarr store."""
    dataset = xr.Dataset(
        {
            "mean": ("channel", statistics.mean),
            "std": ("channel", statistics.std),
            "change_std": ("channel", statistics.change_std),
            "climatology": (("season", "cell"), statistics.climatology),
        },
        attrs={"names": list(statistics.names), "fingerprint": statistics.fingerprint},
    )
    chunks = {"climatology": {"chunks": (1, statistics.climatology.shape[1]), "shards": statistics.climatology.shape}}
    dataset.to_zarr(path, mode="w", zarr_format=3, encoding=chunks)


def read_statistics(path: Path | str) -> Statistics:
    """What `write_statistics` wrote.

    Raises
    ------
    UserError
        If there is nothing at `path`.
    """
    if not (Path(path) / "zarr.json").is_file():
        raise UserError(f"{path}: no statistics here; `dvc repro stats` makes them")
    dataset = xr.open_zarr(path, chunks=None)
    return Statistics(
        **{name: dataset[name].values for name in ("mean", "std", "change_std", "climatology")},
        names=tuple(dataset.attrs["names"]),
        fingerprint=dataset.attrs["fingerprint"],
    )
