"""Anomalies that a source does not hold: departures of a field from its mean annual cycle."""

import numpy as np
import xarray as xr

from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.source.validation import read_block
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


def bins_of(time: np.ndarray, config: DataConfig) -> tuple[np.ndarray, int]:
    """The day-of-year bin that each time of the source falls into, [time], and the number of bins.

    A bin is as long as the time step from the first period to the last; beside them, the source may have holes.
    """
    span = config.periods.span
    step = calendar.step_days(time[calendar.within(time, span.start, span.end)])
    return calendar.day_of_year_bins(time, step)


def reference_bins(time: np.ndarray, channel: Channel, config: DataConfig) -> tuple[np.ndarray, np.ndarray, int]:
    """The times of the source [time] that the annual cycle is the mean of (`data.anomaly_period`): their indices, their
    day-of-year bins, and the number of all bins.

    Raises
    ------
    UserError
        If they leave out a bin that some time of the source falls into.
    """
    train = config.periods.train
    inside = calendar.within(time, train.start, train.end) | (config.anomaly_period == "all")
    bins, n_bins = bins_of(time, config)
    empty = len(set(bins) - set(bins[inside]))
    if empty:
        raise UserError(
            f"data.anomaly_period: {channel.name} is the departure of {channel.field.anomaly_of} from its mean annual "
            f"cycle, but the training period, {train.start} to {train.end}, has no data in {empty} of {n_bins} "
            "day-of-year bins; let it last a year, or take `all`"
        )
    return np.flatnonzero(inside), bins[inside], n_bins


def mean_annual_cycle(dataset: xr.Dataset, channel: Channel, config: DataConfig) -> np.ndarray:
    """Mean over the years in each day-of-year bin, [bin, lat, lon], float32; `dataset` has all times of the source.

    Raises
    ------
    UserError
        As `reference_bins`, and where values can't be read.
    """
    reference, bins, n_bins = reference_bins(dataset["time"].values, channel, config)
    name = str(channel.field.anomaly_of)
    base = dataset[[name]].transpose("time", "lat", "lon")
    total = np.zeros((n_bins, dataset.sizes["lat"], dataset.sizes["lon"]))
    at_once = max(1, _BYTES_AT_ONCE // (4 * total[0].size))
    for first in range(0, len(reference), at_once):
        times = slice(reference[first], reference[first] + min(at_once, len(reference) - first))
        block = read_block(base.isel(time=times), [name], f"data.source: {config.source}")[name].values
        for number, state in zip(bins[first : first + at_once], block, strict=True):
            total[number] += state
    total /= np.maximum(np.bincount(bins, minlength=n_bins), 1)[:, None, None]
    return total.astype("f4")


def mean_annual_cycle_bytes(dataset: xr.Dataset, config: DataConfig) -> int:
    """The memory that `mean_annual_cycle` takes."""
    _, n_bins = bins_of(dataset["time"].values, config)
    return n_bins * dataset.sizes["lat"] * dataset.sizes["lon"] * (8 + 4) + 2 * _BYTES_AT_ONCE
