"""From weighted sums to scores. Each metric is a few lines on means over cells and starts."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import xarray as xr

from ocean_emulators.ocean.fields import channel
from ocean_emulators.registry import Registry


@dataclass(frozen=True)
class Metric:
    """A score: what makes it of means over cells, averaged over starts (see `statistics.py`)."""

    of: Callable[[xr.Dataset], xr.DataArray]
    in_units_of_field: bool
    """else it is a plain number"""


METRICS: Registry[Metric] = Registry("metric")
"""By name; tables list them in this order."""


def rmse(mean: xr.Dataset) -> xr.DataArray:
    """Root of the mean squared error, in the units of the field."""
    return mean["squared_error"] ** 0.5


def bias(mean: xr.Dataset) -> xr.DataArray:
    """Mean error, in the units of the field."""
    return mean["error"]


def acc(mean: xr.Dataset) -> xr.DataArray:
    """Anomaly correlation (uncentred) against the training period's day-of-year climatology; 1 is perfect."""
    norm = (mean["squared_predicted_anomaly"] * mean["squared_true_anomaly"]) ** 0.5
    # A prediction without anomalies (climatology itself) correlates with nothing; a region without ocean has no score.
    return (mean["anomaly_product"] / norm.where(norm > 0)).where(norm != 0, 0.0)


METRICS.register("rmse")(Metric(rmse, in_units_of_field=True))
METRICS.register("bias")(Metric(bias, in_units_of_field=True))
METRICS.register("acc")(Metric(acc, in_units_of_field=False))


def mean_over_starts(sums: xr.Dataset) -> xr.Dataset:
    """Area-weighted means over cells, averaged over starts: [lead, region, channel]."""
    return sums.drop_vars("weight").mean("start") / sums["weight"]


def score_table(sums: xr.Dataset, std: xr.DataArray) -> pd.DataFrame:
    """All scores as a tidy table: one row per lead, region, channel and metric.

    `std` [channel] makes `nrmse`, the RMSE in units of the field's standard deviation over the training period.
    """
    mean = mean_over_starts(sums)
    scores = {name: metric.of(mean) for name, metric in METRICS.items()}
    scores["nrmse"] = scores["rmse"] / std
    table = (
        xr.Dataset(scores)
        .to_dataframe()
        .reset_index()
        .melt(["lead", "region", "channel"], var_name="metric", value_name="value")
    )
    parts = table["channel"].map(channel)
    table.insert(2, "variable", parts.map(lambda c: c.field.name))
    table.insert(3, "level", parts.map(lambda c: c.mask_level))
    with_units = [name for name, metric in METRICS.items() if metric.in_units_of_field]
    units = parts.map(lambda c: c.field.units).where(table["metric"].isin(with_units), "1")
    return table.assign(units=units)


def normalised_rmse(sums: xr.Dataset, std: xr.DataArray, region: str = "global") -> xr.DataArray:
    """Root-mean-square over channels of the RMSE / standard deviation, [variable, lead]; variable `all` has them all."""
    squared = mean_over_starts(sums.sel(region=region))["squared_error"] / std**2
    return by_variable(squared) ** 0.5


def by_variable(values: xr.DataArray) -> xr.DataArray:
    """Mean over the channels of each variable, and over all of them as variable `all`."""
    names = list(dict.fromkeys(channel(str(name)).field.name for name in values["channel"].values))
    means = [values.mean("channel"), *(values.sel(channel=channels_of(name, values)).mean("channel") for name in names)]
    return xr.concat(means, pd.Index(["all", *names], name="variable"))


def channels_of(variable: str, values: xr.DataArray | xr.Dataset) -> list[str]:
    """Names of the channels of a variable, in their order."""
    return [str(name) for name in values["channel"].values if channel(str(name)).field.name == variable]
