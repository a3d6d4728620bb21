"""The part of a source that an experiment uses, refused where it contradicts or lacks what is needed."""

import numpy as np
import xarray as xr

from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.source.anomalies import derived, reference_bins
from ocean_emulators.datasets.source.layouts import open_source
from ocean_emulators.datasets.source.validation import validate_metadata, validate_state, validate_steps
from ocean_emulators.errors import UserError
from ocean_emulators.ocean import calendar


def select(config: DataConfig) -> xr.Dataset:
    """The part of the source that an experiment uses, lazily: its times, on its own grid.

    Raises
    ------
    UserError
        As `prepare`, save for memory and for values that are missing after the first time.
    """
    return select_from(open_source(config.source, keep_stacked=True), config)


def select_from(dataset: xr.Dataset, config: DataConfig) -> xr.Dataset:
    """As `select`, from a source that is open."""
    validate_metadata(dataset, config)
    span = span_of_periods(dataset["time"].values, config)
    validate_steps(dataset["time"].values, span, config)
    validate_state(dataset.isel(time=span.start), config)
    for channel in derived(config, dataset):
        reference_bins(dataset["time"].values, channel, config)
    return dataset.isel(time=span)


def span_of_periods(time: np.ndarray, config: DataConfig) -> slice:
    """The times from the first of any period to the last of any."""
    calendar.require_days(time, config.periods.days)
    for name, period in config.periods.named.items():
        if not calendar.within(time, period.start, period.end).any():
            raise UserError(
                f"data.periods.{name}: {period.start} to {period.end} holds none of the times of {config.source}, "
                f"{time[0]} to {time[-1]}"
            )
    inside = np.flatnonzero(calendar.within(time, config.periods.span.start, config.periods.span.end))
    return slice(int(inside[0]), int(inside[-1]) + 1)
