"""Normalisation statistics and the climatology, of wet cells alone; by default of the training period alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from tqdm import tqdm

from ocean_emulators.config.base import digest
from ocean_emulators.datasets.config import Period, StatisticsConfig
from ocean_emulators.datasets.statistics.published import read_published
from ocean_emulators.datasets.store.packed_store import PackedStore, open_store
from ocean_emulators.errors import UserError
from ocean_emulators.ocean import calendar
from ocean_emulators.parallel import Resources, open_pool

_TIMES_AT_ONCE = 32
_BYTES_READ = 16 * 2**20
_BYTES_PER_FILE = 256 * 2**20
_IN_ONE_THREAD = Resources(workers=1)


@dataclass(frozen=True)
class Statistics:
    """Per channel (prognostic, then forcing), over wet cells and times, unweighted."""

    mean: np.ndarray
    """[channel], physical units"""
    std: np.ndarray
    """[channel], standard deviation in space and time"""
    change_std: np.ndarray
    """[channel], standard deviation in space and time of the change over one time step"""
    climatology: np.ndarray | zarr.Array[Any]
    """[season, cell], mean over the years of the training period in each bin of the year; float32. As large as a year of the
    data: what was written is read when it is indexed"""
    names: tuple[str, ...]
    """[channel]"""
    fingerprint: str
    """SHA-256 of what they were made from: the times read, and published numbers"""


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


def compute_statistics(
    store: PackedStore,
    train: Period,
    settings: StatisticsConfig = StatisticsConfig(),  # noqa: B008 (frozen)
    resources: Resources = _IN_ONE_THREAD,
) -> Statistics:
    """Each row of the period is read once for the moments, and of the training period once for the climatology.

    The climatology, as large as one year of the data, is held in memory.

    Raises
    ------
    UserError
        If the training period has fewer than two times or leaves a season without data; a channel does not vary; published
        statistics lack a channel; or the memory limit is too low.
    """
    trained = store.indices(train, "train")
    times = trained if settings.period == "train" else range(len(store.time))
    bins, n_bins = calendar.season_bins(store.time[trained.start : trained.stop], store.step_days)
    seasons = [trained.start + np.flatnonzero(bins == season) for season in range(n_bins)]
    _require_all_seasons(seasons, train)
    moments = _moments(store, times, resources)
    mean, std, change_std = moments.summary()
    names = tuple(c.name for c in store.channels)
    _require_variation(names, std, change_std)
    parts = [store.digest(trained), store.digest(times)]
    if settings.published_means is not None and settings.published_stds is not None:
        computed, depths = (mean, std), store.grid.lev
        mean = read_published(settings.published_means, "published_means", store.channels, depths, computed[0])
        std = read_published(settings.published_stds, "published_stds", store.channels, depths, computed[1])
        _require_published(names, mean, std, settings)
        parts += [digest(mean.tolist(), std.tolist())]
    return Statistics(mean, std, change_std, _climatology(store, seasons, resources), names, digest(*parts))


def _moments(store: PackedStore, times: range, resources: Resources) -> Moments:
    cells = store.cells_per_channel
    first = store.rows(times.start, times.start + 1)[0].astype("f8")
    shift = np.add.reduceat(first, np.cumsum(cells) - cells) / cells
    n_cells = int(cells.sum())
    task = partial(_moments_of_block, store.path.absolute(), store.fingerprint, times, shift)
    starts = range(times.start, times.stop, _TIMES_AT_ONCE)
    held = 8 * 4 * n_cells + _bytes_of_reading(n_cells)
    with open_pool(resources, held, "the sums over one block of times") as pool:
        return reduce(add, tqdm(pool.map(task, starts), "moments", len(starts), unit="block", disable=None))


def _moments_of_block(path: Path, fingerprint: str, times: range, shift: np.ndarray, start: int) -> Moments:
    store = _opened(path, fingerprint)
    before = store.rows(start - 1, start)[0] if start > times.start else None
    stop = min(start + _TIMES_AT_ONCE, times.stop)
    return Moments.of(_rows(store, range(start, stop)), before, shift, store.cells_per_channel)


def _climatology(store: PackedStore, seasons: Sequence[np.ndarray], resources: Resources) -> np.ndarray:
    n_cells = int(store.cells_per_channel.sum())
    task = partial(_mean_of_times, store.path.absolute(), store.fingerprint)
    result_bytes = 4 * n_cells * len(seasons)
    held = 8 * n_cells + 4 * n_cells + _bytes_of_reading(n_cells)
    with open_pool(resources, held, "the climatology", kept=result_bytes) as pool:
        climatology = np.empty((len(seasons), n_cells), "f4")
        means = tqdm(pool.map(task, seasons), "climatology", len(seasons), unit="season", disable=None)
        for season, mean in enumerate(means):
            climatology[season] = mean
        return climatology


def _mean_of_times(path: Path, fingerprint: str, times: np.ndarray) -> np.ndarray:
    store = _opened(path, fingerprint)
    total = np.zeros(int(store.cells_per_channel.sum()))
    for row in _rows(store, times):
        total += row
    return (total / len(times)).astype("f4")


def _rows(store: PackedStore, times: Sequence[int] | np.ndarray) -> Iterable[np.ndarray]:
    """Rows one by one, read some at a time where they follow one another."""
    at_once = max(1, _BYTES_READ // (4 * int(store.cells_per_channel.sum())))
    runs = np.split(np.asarray(times), np.flatnonzero(np.diff(times) != 1) + 1)
    for run in runs:
        for first in range(int(run[0]), int(run[-1]) + 1, at_once):
            yield from store.rows(first, min(first + at_once, int(run[-1]) + 1))


def _bytes_of_reading(n_cells: int) -> int:
    """Rows as they are stored, decoded and put together, and those before them, which are not given back at once."""
    return 5 * max(_BYTES_READ, 4 * n_cells)


@lru_cache(maxsize=2)
def _opened(path: Path, fingerprint: str) -> PackedStore:
    """One for all blocks that a process works on."""
    return open_store(path)


def _require_all_seasons(seasons: Sequence[np.ndarray], train: Period) -> None:
    empty = sum(not len(times) for times in seasons)
    if empty:
        raise UserError(
            f"data.periods.train: {train.start} to {train.end} has no data in {empty} of the {len(seasons)} seasons of the "
            "year: a climatology needs at least one whole year"
        )


def _require_variation(names: tuple[str, ...], std: np.ndarray, change_std: np.ndarray) -> None:
    for name, total, change in zip(names, std, change_std, strict=True):
        if not (total > 0 and change > 0):
            raise UserError(f"data: {name} does not vary over the training period; leave the field or level out")


def _require_published(names: tuple[str, ...], mean: np.ndarray, std: np.ndarray, settings: StatisticsConfig) -> None:
    usable = {"means": (mean, np.isfinite(mean)), "stds": (std, np.isfinite(std) & (std > 0))}
    for what, (values, good) in usable.items():
        if not good.all():
            first = int(np.argmin(good))
            setting = f"published_{what}"
            raise UserError(
                f"data.statistics.{setting}: {getattr(settings, setting)} has {values[first]:g} for {names[first]}, by which "
                "nothing can be normalised; mend it, leave the field or level out, or set published_means and "
                "published_stds to null to compute them"
            )


def write_statistics(statistics: Statistics, path: Path) -> None:
    """As one small Zarr store."""
    assert isinstance(statistics.climatology, np.ndarray)
    dataset = xr.Dataset(
        {
            "mean": ("channel", statistics.mean),
            "std": ("channel", statistics.std),
            "change_std": ("channel", statistics.change_std),
            "climatology": (("season", "cell"), statistics.climatology),
        },
        attrs={"names": list(statistics.names), "fingerprint": statistics.fingerprint},
    )
    n_seasons, n_cells = statistics.climatology.shape
    seasons_per_file = max(1, min(n_seasons, _BYTES_PER_FILE // (4 * n_cells)))
    chunks = {"climatology": {"chunks": (1, n_cells), "shards": (seasons_per_file, n_cells)}}
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
    group: Any = zarr.open_group(path, mode="r")
    return Statistics(
        **{name: group[name][:] for name in ("mean", "std", "change_std")},
        climatology=group["climatology"],
        names=tuple(group.attrs["names"]),
        fingerprint=group.attrs["fingerprint"],
    )
