"""Score tables of an evaluation, for people, `dvc metrics` and `dvc plots`."""

import json
from collections.abc import Mapping

import pandas as pd
import xarray as xr

from ocean_emulators.aggregator.metrics import (
    acc,
    by_variable,
    channels_of,
    mean_over_starts,
    normalised_rmse,
    score_table,
)
from ocean_emulators.eval.config import EvaluationConfig
from ocean_emulators.files import write_text
from ocean_emulators.workspace import EvaluationFiles

Summary = Mapping[str, Mapping[str, float]]


def write_score_tables(
    forecasts: xr.Dataset, free_run: xr.Dataset, std: xr.DataArray, config: EvaluationConfig, files: EvaluationFiles
) -> None:
    """From the sums of forecasts and free run; `std` [channel] are the standard deviations of the channels."""
    tables = {"forecast": score_table(forecasts, std), "free_run": score_table(free_run, std)}
    table = pd.concat([part.assign(rollout=name) for name, part in tables.items()])
    write_text(files.scores, table.to_csv(index=False))
    nrmse = normalised_rmse(forecasts, std)
    write_text(files.nrmse, nrmse.to_pandas().T.rename_axis("lead").to_csv())
    correlation = by_variable(acc(mean_over_starts(forecasts.sel(region="global"))))
    summary = {
        "forecast": {"nrmse": _at_leads(nrmse, config), "acc": _at_leads(correlation, config)},
        "free_run": _summarise_free_run(free_run, std),
    }
    write_text(files.summary, json.dumps(summary, indent=2) + "\n")


def _at_leads(scores: xr.DataArray, config: EvaluationConfig) -> Summary:
    """{variable: {"30d": score}} at the leads of tables that were reached."""
    leads = config.reported_leads(scores["lead"].values)
    return {
        str(v): {f"{d:g}d": round(float(scores.sel(variable=v, lead=d)), 6) for d in leads}
        for v in scores["variable"].values
    }


def _summarise_free_run(sums: xr.Dataset, std: xr.DataArray) -> Summary:
    """Normalised RMSE over the whole run, and the largest error of the global mean on each level of temperature."""
    nrmse = normalised_rmse(sums.mean("lead").expand_dims("lead"), std).isel(lead=0)
    error = mean_over_starts(sums.sel(region="global"))["error"]
    largest = {c: round(float(abs(error.sel(channel=c)).max()), 6) for c in channels_of("thetao", error)}
    return {
        "nrmse": {str(v): round(float(nrmse.sel(variable=v)), 6) for v in nrmse["variable"].values},
        "largest_global_mean_error_degC": largest,
    }
