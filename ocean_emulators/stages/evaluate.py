"""Stage `evaluate`: free rollouts over the test period, scored while they run."""

import json

import pandas as pd
import torch
import xarray as xr

from ocean_emulators import workspace as paths
from ocean_emulators.aggregator.inference import InferenceEvaluatorAggregator, scoring_parts
from ocean_emulators.aggregator.scores import acc, by_variable, mean_over_starts, normalised_rmse, score_table
from ocean_emulators.build import Ocean, open_ocean, save_figure
from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.eval.eval import Emulator, predictions_dataset, write_predictions
from ocean_emulators.experiment import Experiment, count_windows, load_experiment
from ocean_emulators.figures import figures
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.families import parse_model
from ocean_emulators.ocean.indices import global_mean, nino34
from ocean_emulators.runtime import Runtime
from ocean_emulators.stepper import Stepper
from ocean_emulators.tracking import Tracker, open_tracker
from ocean_emulators.train.checkpoints import load_checkpoint


def main(runtime: Runtime) -> None:
    """Forecasts from starts spread over the test period, then one free run over all of it."""
    experiment = load_experiment()
    device = runtime.start()
    ocean = open_ocean(experiment.data, device, experiment.evaluated)
    count_windows(experiment, ocean.store.time)
    stepper = _trained_stepper(ocean, device)
    times = ocean.store.indices(experiment.data.periods.test, "test")
    rows = Rows(ocean.store, ocean.packing, times, runtime.cache, normalised=False)
    data = InferenceDataset(rows, "test", stepper.requirements)
    paths.EVALUATION.mkdir(parents=True, exist_ok=True)
    with open_tracker(experiment.name, ocean.provenance(experiment), "evaluate") as tracker:
        _replay_training(tracker)
        emulator = Emulator(stepper, data)
        forecasts = _score_forecasts(experiment, ocean, emulator)
        free_run = _free_run(ocean, emulator)
        _write_scores(experiment, ocean, forecasts, free_run, tracker)
        _draw(ocean, tracker)


def _trained_stepper(ocean: Ocean, device: torch.device) -> Stepper:
    """The emulator of the checkpoint, with its averaged weights."""
    checkpoint = load_checkpoint(paths.CHECKPOINT, device)
    config = parse_model(checkpoint["config"]["model"], str(paths.CHECKPOINT))
    model = config.build(OceanContext.of(ocean.packing, ocean.statistics, ocean.store.grid, ocean.name)).to(device)
    model.load_state_dict(checkpoint["averaged_model"])
    return Stepper(model, config)


def _replay_training(tracker: Tracker) -> None:
    """A record that begins here, because training was taken from DVC's cache, gets its history all the same."""
    if "train" in tracker.stages_done():
        return
    for row in pd.read_csv(paths.HISTORY).to_dict("records"):
        tracker.log_metrics({str(k): v for k, v in row.items() if k != "epoch"}, step=int(row["epoch"]))


def _score_forecasts(experiment: Experiment, ocean: Ocean, emulator: Emulator) -> xr.Dataset:
    steps = experiment.evaluation.steps(ocean.store.step_days)
    starts = emulator.data.starts(steps, experiment.evaluation.start_every)
    seasons, sums = scoring_parts(ocean.store, ocean.statistics, ocean.packing)
    aggregator = InferenceEvaluatorAggregator(emulator.data, seasons, sums, starts, steps)
    dataset = aggregator.score(emulator, experiment.evaluation.batch_size).get_dataset()
    dataset.to_zarr(paths.FORECAST_SUMS, mode="w", zarr_format=2)
    return dataset


def _free_run(ocean: Ocean, emulator: Emulator) -> xr.Dataset:
    """From the first states of the test period to its last: scored and written as fields."""
    data = emulator.data
    start = data.times.start + emulator.stepper.requirements.past
    steps = data.longest_rollout()
    seasons, sums = scoring_parts(ocean.store, ocean.statistics, ocean.packing)
    aggregator = InferenceEvaluatorAggregator(data, seasons, sums, [start], steps)
    predicted = []
    for step, rows in enumerate(emulator.forecast([start], steps), start=1):
        aggregator.record(slice(0, 1), step, rows)
        predicted.append(rows[0].cpu())
    times = ocean.store.time[start + 1 : start + 1 + steps]
    write_predictions(torch.stack(predicted).numpy(), times, ocean.store, ocean.packing, paths.PREDICTIONS)
    dataset = aggregator.get_dataset()
    dataset.to_zarr(paths.FREE_RUN_SUMS, mode="w", zarr_format=2)
    return dataset


def _write_scores(
    experiment: Experiment, ocean: Ocean, forecasts: xr.Dataset, free_run: xr.Dataset, tracker: Tracker
) -> None:
    std = ocean.prognostic_std()
    tables = {"forecast": score_table(forecasts, std), "free_run": score_table(free_run, std)}
    pd.concat([t.assign(rollout=name) for name, t in tables.items()]).to_csv(paths.SCORES_CSV, index=False)
    nrmse = normalised_rmse(forecasts, std)
    correlation = by_variable(acc(mean_over_starts(forecasts.sel(region="global"))))
    nrmse.to_pandas().T.rename_axis("lead").to_csv(paths.NRMSE_CSV)
    for name, scores in (("nrmse", nrmse), ("acc", correlation)):
        for lead in scores["lead"].values:
            values = {
                f"forecast/{name}/{v}": float(scores.sel(variable=v, lead=lead)) for v in scores["variable"].values
            }
            tracker.log_metrics(values, step=round(float(lead)))
    free_run_summary = _summarise_free_run(free_run, std)
    summary = {
        "forecast": {"nrmse": _at_leads(nrmse, experiment), "acc": _at_leads(correlation, experiment)},
        "free_run": free_run_summary,
    }
    paths.SCORES_JSON.write_text(json.dumps(summary, indent=2) + "\n")
    tracker.log_metrics({f"free_run/{k}": v for k, v in _leaves(free_run_summary).items()})
    tracker.log_file(paths.SCORES_JSON, "scores")
    tracker.log_file(paths.SCORES_CSV, "scores")


def _at_leads(scores: xr.DataArray, experiment: Experiment) -> dict[str, dict[str, float]]:
    """{variable: {"30d": score}} at the leads of tables that were reached."""
    leads = experiment.evaluation.reported_leads(scores["lead"].values)
    return {
        str(v): {f"{d:g}d": round(float(scores.sel(variable=v, lead=d)), 6) for d in leads}
        for v in scores["variable"].values
    }


def _summarise_free_run(sums: xr.Dataset, std: xr.DataArray) -> dict[str, dict[str, float]]:
    """Normalised RMSE over the whole run, and the largest error of the global mean on each level of temperature."""
    nrmse = normalised_rmse(sums.mean("lead").expand_dims("lead"), std).isel(lead=0)
    error = mean_over_starts(sums.sel(region="global"))["error"]
    temperature = [str(c) for c in error["channel"].values if str(c).startswith("thetao_")]
    largest = {c: round(float(abs(error.sel(channel=c)).max()), 6) for c in temperature}
    return {
        "nrmse": {str(v): round(float(nrmse.sel(variable=v)), 6) for v in nrmse["variable"].values},
        "largest_global_mean_error_degC": largest,
    }


def _leaves(tree: dict[str, dict[str, float]]) -> dict[str, float]:
    return {f"{outer}/{inner}": value for outer, part in tree.items() for inner, value in part.items()}


def _draw(ocean: Ocean, tracker: Tracker) -> None:
    """The learning curve, where there was training; maps, Nino3.4 and drift of the free run beside the truth."""
    prediction = xr.open_zarr(paths.PREDICTIONS, chunks=None, decode_times=xr.coders.CFDatetimeCoder(use_cftime=True))
    truth = _truth_of(prediction, ocean)
    history = pd.read_csv(paths.HISTORY)
    drawn = {} if history.empty else {"learning_curve": figures.learning_curve(history)}
    for name, step in (("maps_middle", len(prediction["time"]) // 2), ("maps_end", -1)):
        when = prediction["time"].values[step]
        title = f"Free run, {when.strftime('%Y-%m-%d')}"
        drawn[name] = figures.maps(truth.isel(time=step), prediction.isel(time=step), title)
    if "thetao" in prediction:
        series = {"truth": nino34(truth), "prediction": nino34(prediction)}
        if all(bool(values.notnull().all()) for values in series.values()):
            drawn["nino34"] = figures.index_series(
                series, "Temperature of the uppermost level in the Nino3.4 box", "degC"
            )
        error = global_mean(prediction, "thetao") - global_mean(truth, "thetao")
        drawn["drift"] = figures.drift(error, "Free run: error of global-mean temperature by level", "degC")
    for name, figure in drawn.items():
        tracker.log_file(save_figure(figure, paths.EVALUATION, name), "figures")


def _truth_of(prediction: xr.Dataset, ocean: Ocean) -> xr.Dataset:
    first = int((ocean.store.time == prediction["time"].values[0]).argmax())
    rows = ocean.store.rows(first, first + len(prediction["time"]))[:, : ocean.packing.n_prognostic_cells]
    return predictions_dataset(rows, prediction["time"].values, ocean.store, ocean.packing)
