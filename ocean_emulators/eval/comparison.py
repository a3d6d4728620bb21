"""Sets the emulator beside the baselines, start by start, with intervals."""

import numpy as np
import pandas as pd
import xarray as xr

from ocean_emulators.aggregator.metrics import by_variable, normalised_rmse
from ocean_emulators.eval.config import ComparisonConfig
from ocean_emulators.forecasting.base import EMULATOR


def compare(
    sums: dict[str, xr.Dataset], std: xr.DataArray, config: ComparisonConfig, start_days: float
) -> pd.DataFrame:
    """Normalised RMSE of each forecaster, by variable and lead, beside the emulator's.

    Parameters
    ----------
    sums: by forecaster, the emulator among them, over the same starts
    std: [channel]
    start_days: distance of the starts, days

    Returns
    -------
    Columns forecast, variable, lead, nrmse; and emulator_ratio (emulator / forecast, below 1: the emulator is better) with
    ratio_low, ratio_high, its interval by a paired block bootstrap over starts; NaN where all starts are in one block, of
    which every draw would be the same.
    """
    n_starts, block = sums[EMULATOR].sizes["start"], max(1, round(config.bootstrap_block_days / start_days))
    draws = block_draws(n_starts, block, config) if block < n_starts else np.zeros((0, n_starts), int)
    nrmse = {name: normalised_rmse(dataset, std) for name, dataset in sums.items()}
    squared = {name: _resampled(_squared_by_start(dataset, std), draws) for name, dataset in sums.items()}
    tables = []
    for name in sums:
        table = xr.Dataset({"nrmse": nrmse[name], "emulator_ratio": nrmse[EMULATOR] / nrmse[name]})
        low, high = _interval(np.sqrt(squared[EMULATOR] / squared[name]), config.confidence)
        table["ratio_low"], table["ratio_high"] = (("variable", "lead"), low), (("variable", "lead"), high)
        tables.append(table.drop_vars("region").to_dataframe().reset_index().assign(forecast=name))
    columns = ["forecast", "variable", "lead", "nrmse", "emulator_ratio", "ratio_low", "ratio_high"]
    return pd.concat(tables, ignore_index=True)[columns]


def block_draws(n_starts: int, block: int, config: ComparisonConfig) -> np.ndarray:
    """Indices of starts, [draw, start]: circular blocks of consecutive ones (Politis and Romano 1992)."""
    rng = np.random.default_rng(config.seed)
    n_blocks = -(-n_starts // block)
    first = rng.integers(0, n_starts, (config.bootstrap_draws, n_blocks))
    return ((first[..., None] + np.arange(block)) % n_starts).reshape(config.bootstrap_draws, n_blocks * block)[
        :, :n_starts
    ]


def _interval(drawn: np.ndarray, confidence: float) -> np.ndarray:
    """Central quantiles over draws [draw, ...], [low and high, ...]; NaN if there are none."""
    if not len(drawn):
        return np.full((2, *drawn.shape[1:]), np.nan)
    bounds: np.ndarray = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return bounds


def _squared_by_start(sums: xr.Dataset, std: xr.DataArray) -> xr.DataArray:
    chosen = sums.sel(region="global")
    return by_variable(chosen["squared_error"] / chosen["weight"] / std**2).transpose("start", "variable", "lead")


def _resampled(squared: xr.DataArray, draws: np.ndarray) -> np.ndarray:
    """Means over drawn starts, [draw, variable, lead]: one product instead of a loop over draws."""
    n = squared.sizes["start"]
    counts = np.stack([np.bincount(draw, minlength=n) for draw in draws]) if len(draws) else np.zeros((0, n))
    return np.tensordot(counts / n, squared.values, axes=1)
