"""Stage `compare`: the emulator beside baselines that the same code scores from the same starts."""

import json

import pandas as pd
import torch
import xarray as xr

from ocean_emulators import workspace as paths
from ocean_emulators.aggregator.inference import InferenceEvaluatorAggregator, scoring_parts
from ocean_emulators.aggregator.scores import mean_over_starts, rmse
from ocean_emulators.build import Ocean, open_ocean, save_figure
from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.requirements import DataRequirements
from ocean_emulators.eval.comparison import compare
from ocean_emulators.eval.report import EMULATOR, ratio_lines, score_lines
from ocean_emulators.experiment import Experiment, load_experiment
from ocean_emulators.figures import figures
from ocean_emulators.forecasting.baselines import Baseline
from ocean_emulators.ocean.fields import channel
from ocean_emulators.runtime import Runtime
from ocean_emulators.tracking import Tracker, open_tracker


def main(runtime: Runtime) -> None:
    """Score the baselines, compare, and leave tables and figures in `outputs/comparison`."""
    experiment = load_experiment()
    runtime.start()
    ocean = open_ocean(experiment.data, torch.device("cpu"), experiment.evaluated)
    emulator = xr.open_zarr(paths.FORECAST_SUMS, chunks=None)
    paths.COMPARISON.mkdir(parents=True, exist_ok=True)
    with open_tracker(experiment.name, ocean.provenance(experiment), "compare") as tracker:
        sums = {EMULATOR: emulator, **_score_baselines(experiment, ocean, emulator, runtime)}
        start_days = experiment.evaluation.start_every * ocean.store.step_days
        table = compare(sums, ocean.prognostic_std(), experiment.comparison, start_days)
        table.to_csv(paths.COMPARISON_CSV, index=False)
        summary = _summarise(table, experiment)
        paths.COMPARISON_JSON.write_text(json.dumps(summary, indent=2) + "\n")
        _track(table, tracker)
        leads = experiment.evaluation.reported_leads(table["lead"].unique())
        text = "\n".join([*score_lines(table, leads), "", *ratio_lines(table, leads)])
        tracker.describe(f"```text\n{text}\n```")
        _draw(sums, table, ocean, experiment, tracker)


def _score_baselines(
    experiment: Experiment, ocean: Ocean, emulator: xr.Dataset, runtime: Runtime
) -> dict[str, xr.Dataset]:
    times = ocean.store.indices(experiment.data.periods.test, "test")
    rows = Rows(ocean.store, ocean.packing, times, runtime.cache, normalised=False)
    data = InferenceDataset(rows, "test", DataRequirements(1, 1, ()))
    position = {str(time): i for i, time in enumerate(ocean.store.time)}
    starts, steps = [position[str(time)] for time in emulator["start"].values], emulator.sizes["lead"]
    seasons, weighted = scoring_parts(ocean.store, ocean.statistics, ocean.packing)
    scored: dict[str, xr.Dataset] = {}
    for name in experiment.comparison.baselines:
        baseline = Baseline(name, ocean.store, seasons, experiment.data.periods.train, steps)
        aggregator = InferenceEvaluatorAggregator(data, seasons, weighted, starts, steps)
        scored[name] = aggregator.score(baseline, experiment.evaluation.batch_size).get_dataset()
        scored[name].to_zarr(paths.COMPARISON / "sums" / f"{name}.zarr", mode="w", zarr_format=2)
    return scored


def _summarise(table: pd.DataFrame, experiment: Experiment) -> dict[str, dict[str, dict[str, float]]]:
    """{baseline: {variable: {"30d": emulator / baseline}}}, for `dvc metrics`."""
    summary: dict[str, dict[str, dict[str, float]]] = {}
    leads = experiment.evaluation.reported_leads(table["lead"].unique())
    reported = table[table["lead"].isin(leads) & (table["forecast"] != EMULATOR)]
    columns = reported[["forecast", "variable", "lead", "emulator_ratio"]]
    for forecast, variable, lead, ratio in columns.to_numpy().tolist():
        summary.setdefault(forecast, {}).setdefault(variable, {})[f"{lead:g}d"] = round(ratio, 6)
    return summary


def _track(table: pd.DataFrame, tracker: Tracker) -> None:
    for lead, part in table[table["forecast"] != EMULATOR].groupby("lead"):
        names = "ratio/" + part["forecast"] + "/" + part["variable"]
        tracker.log_metrics(dict(zip(names, part["emulator_ratio"], strict=True)), step=round(float(str(lead))))
    tracker.log_file(paths.COMPARISON_CSV, "scores")
    tracker.log_file(paths.COMPARISON_JSON, "scores")


def _draw(
    sums: dict[str, xr.Dataset], table: pd.DataFrame, ocean: Ocean, experiment: Experiment, tracker: Tracker
) -> None:
    drawn = {"score_against_lead": figures.score_against_lead(table)}
    lead = min(experiment.evaluation.report_days, key=lambda days: abs(days - 30))
    profiles = {name: _profile(dataset, ocean, lead) for name, dataset in sums.items()}
    drawn["error_by_depth"] = figures.error_profiles(profiles, float(profiles[EMULATOR]["lead"]))
    for name, figure in drawn.items():
        tracker.log_file(save_figure(figure, paths.COMPARISON, name), "figures")


def _profile(sums: xr.Dataset, ocean: Ocean, lead: float) -> xr.DataArray:
    """Normalised RMSE [variable, lev] of the variables that have levels."""
    nrmse = rmse(mean_over_starts(sums.sel(region="global"))) / ocean.prognostic_std()
    nrmse = nrmse.sel(lead=lead, method="nearest")
    parts = [channel(str(name)) for name in nrmse["channel"].values]
    index = pd.MultiIndex.from_tuples(
        [(c.field.name, ocean.store.grid.lev[c.level]) for c in parts if c.level is not None], names=["variable", "lev"]
    )
    deep = nrmse.isel(channel=[c.level is not None for c in parts]).drop_vars("channel")
    return deep.assign_coords(xr.Coordinates.from_pandas_multiindex(index, "channel")).unstack("channel")
