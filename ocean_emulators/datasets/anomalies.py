"""Forcing fields that a source does not hold: departures of another field from its mean by season of the year."""

import threading
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr

from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.errors import UserError
from ocean_emulators.ocean import calendar

_BLOCK_BYTES = 64 * 2**20


def with_anomalies(dataset: xr.Dataset, config: DataConfig) -> xr.Dataset:
    """Add, lazily, the anomalies that are asked for and that the source (all its times) does not hold.

    Raises
    ------
    UserError
        If the times that the mean is made of leave out a season.
    """
    time = dataset["time"].values
    for forcing in config.forcing_channels:
        base = forcing.field.anomaly_of
        if base is None or forcing.name in dataset:
            continue
        train = config.periods.train
        inside = calendar.within(time, train.start, train.end) | (config.anomaly_period == "all")
        bins, _ = calendar.season_bins(time, calendar.step_days(time[inside]))
        absent = ~np.isin(bins, bins[inside])
        if absent.any():
            raise UserError(
                f"data.anomaly_period: {forcing.name} is the departure from {base}'s mean by season, but the training "
                f"period has no time in the season of {time[absent][0]}; let it last a year, or take `all`"
            )
        dataset = dataset.assign(
            {forcing.name: _departure(dataset[base].transpose("time", "lat", "lon"), bins, inside)}
        )
    return dataset


def _departure(field: xr.DataArray, bins: np.ndarray, inside: np.ndarray) -> xr.DataArray:
    data: da.Array = field.data
    first, last = np.flatnonzero(inside)[[0, -1]]  # times are in order, so that these hold all between them
    mean = dask.delayed(SeasonalMean(data[first : last + 1], bins[inside]))()
    by_time = da.from_array(bins[:, None, None], chunks=(data.chunks[0], 1, 1))
    less = da.map_blocks(_subtract, data, by_time, mean=mean, dtype=data.dtype, meta=data._meta)
    return field.copy(data=less)


def _subtract(values: np.ndarray, bins: np.ndarray, mean: np.ndarray, block_info: Any = None) -> np.ndarray:
    if values.size == 0:
        return values
    (_, rows, columns) = block_info[0]["array-location"]
    result: np.ndarray = values - mean[bins[:, 0, 0], slice(*rows), slice(*columns)]
    return result


class SeasonalMean:
    """Mean of a field by season, taken when it is first asked for, and kept: parts of a dataset that are read one after
    the other in one process share one pass over the times that the mean is made of.

    Memory: one state of 8 bytes a cell for each season, beside a block of times.
    """

    def __init__(self, field: da.Array, bins: np.ndarray) -> None:
        """`field` [time, lat, lon], lazy; `bins` [time], the season of each time."""
        self.field, self.bins = field, bins
        self._mean: np.ndarray | None = None
        self._lock = threading.Lock()

    def __call__(self) -> np.ndarray:
        """[season, lat, lon], float32."""
        with self._lock:
            if self._mean is None:
                self._mean = self._take()
        return self._mean

    def _take(self) -> np.ndarray:
        n_times, *shape = self.field.shape
        count = np.bincount(self.bins)
        total = np.zeros((len(count), *shape))
        stride = max(1, _BLOCK_BYTES // (4 * int(np.prod(shape))))
        for start in range(0, n_times, stride):
            # Not on the user's scheduler: this may run inside one of its tasks.
            block = self.field[start : start + stride].compute(scheduler="threads")
            for season, state in zip(self.bins[start : start + stride], block, strict=True):
                total[season] += state
        mean: np.ndarray = (total / np.maximum(count, 1)[:, None, None]).astype("f4")
        return mean

    def __getstate__(self) -> dict[str, Any]:
        return {"field": self.field, "bins": self.bins}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
