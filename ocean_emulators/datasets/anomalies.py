"""Anomalies that a source does not hold: departures of a field from its mean season."""

from pathlib import Path

import numpy as np
import xarray as xr

from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.errors import UserError
from ocean_emulators.ocean import calendar
from ocean_emulators.ocean.fields import Channel

_BYTES_AT_ONCE = 64 * 2**20


def derived(config: DataConfig, dataset: xr.Dataset) -> tuple[Channel, ...]:
    """The channels that are computed because the source lacks them."""
    chosen = config.prognostic_channels + config.forcing_channels
    return tuple(
        c for c in chosen if c.name not in dataset and c.field.anomaly_of is not None and c.field.anomaly_of in dataset
    )


def season_of(dataset: xr.Dataset) -> np.ndarray:
    """The bin of the year that each time falls into, [time]."""
    time = dataset["time"].values
    return calendar.season_bins(time, calendar.step_days(time))[0]


def seasonal_mean(dataset: xr.Dataset, channel: Channel, config: DataConfig) -> np.ndarray:
    """Mean over the years of the training period in each bin of the year, [season, lat, lon], float32.

    Raises
    ------
    UserError
        If the training period leaves a bin without data.
    """
    time, train = dataset["time"].values, config.periods.train
    bins, n_bins = calendar.season_bins(time, calendar.step_days(time))
    reference = np.flatnonzero(calendar.within(time, train.start, train.end))
    counts = np.bincount(bins[reference], minlength=n_bins)
    if not counts.all():
        raise UserError(
            f"data.forcing: {channel.name} is the departure from the mean season of data.periods.train, {train.start} to "
            f"{train.end}, which has no data in {int((counts == 0).sum())} of {n_bins} seasons; take at least a whole year"
        )
    base = dataset[channel.field.anomaly_of].transpose("time", "lat", "lon")
    total = np.zeros((n_bins, *base.shape[1:]))
    at_once = max(1, _BYTES_AT_ONCE // base[0].nbytes)
    for first in range(reference[0], reference[-1] + 1, at_once):
        times = slice(first, min(first + at_once, reference[-1] + 1))
        np.add.at(total, bins[times], base[times].values)
    total /= counts[:, None, None]
    return total.astype("f4")


def seasonal_mean_bytes(dataset: xr.Dataset) -> int:
    """The memory that `seasonal_mean` takes."""
    n_bins = int(season_of(dataset).max()) + 1
    return n_bins * dataset.sizes["lat"] * dataset.sizes["lon"] * (8 + 4) + 2 * _BYTES_AT_ONCE


def kept_seasonal_mean(dataset: xr.Dataset, channel: Channel, config: DataConfig, path: Path) -> np.ndarray:
    """`seasonal_mean`, taken once and kept in a file, of which only what is needed is read."""
    if not path.is_file():
        building = path.with_name(path.name + ".partial")
        with building.open("wb") as file:
            np.save(file, seasonal_mean(dataset, channel, config))
        building.replace(path)
    mean: np.ndarray = np.load(path, mmap_mode="r")
    return mean
