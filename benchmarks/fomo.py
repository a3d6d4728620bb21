"""One FOMO for two resolutions of the sample ocean, beside a Samudra of its size trained on each alone.

Trains all of them, with several seeds, a Samudra for twice the epochs: as many optimiser steps, since FOMO sees both
resolutions in each. Scores forecasts of the test period after one step and after 30 days: RMSE over standard deviation, all
fields together, and the power that is left at the smallest scale. This takes an hour on two cores; it is no part of
`make benchmarks`.
"""

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from oceans import prepare_all

from ocean_emulators.aggregator.inference import InferenceEvaluatorAggregator
from ocean_emulators.aggregator.metrics import normalised_rmse
from ocean_emulators.aggregator.sums import WeightedSums
from ocean_emulators.build import build_trainer, context_of, open_grids
from ocean_emulators.config.base import parse
from ocean_emulators.config.overrides import apply_overrides
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.datasets.statistics.stored import read_statistics
from ocean_emulators.datasets.store.packed_store import store_path
from ocean_emulators.eval.rollout import run_rollout
from ocean_emulators.experiment import Experiment
from ocean_emulators.forecasting.base import Climatology
from ocean_emulators.forecasting.emulator import Emulator
from ocean_emulators.ocean.regions import REGIONS
from ocean_emulators.runtime import Runtime
from ocean_emulators.stepper import Stepper
from ocean_emulators.workspace import Workspace

ROOT = Path(__file__).parents[1]
LEADS = (5.0, 30.0)
TRAINED = {"FOMO, both": ("sample_fomo", None), "Samudra, native": ("sample", 1), "Samudra, coarse": ("sample", 2)}
UNSEEN = 3


def experiment(preset: str, factor: int | None, seed: int, epochs: int) -> Experiment:
    """A preset on all the resolutions of FOMO, or on one alone."""
    tree: Any = load_yaml(ROOT / "configs" / "experiment" / f"{preset}.yaml")
    coarsen = [1, 2, UNSEEN] if factor is None else [factor]
    return parse(
        Experiment,
        apply_overrides(Experiment, tree, [f"data.coarsen={coarsen}", f"train.seed={seed}", f"train.epochs={epochs}"]),
        "",
    )


def train(config: Experiment, workspace: Workspace, name: str) -> dict[str, torch.Tensor]:
    """The averaged weights; `name` is that of the folder that the training keeps its states in."""
    grids = open_grids(workspace, config.training, torch.device("cpu"))
    runtime, state = Runtime(device="cpu"), workspace.scratch / name
    trainer = build_trainer(config.training, grids, runtime, workspace, state)
    trainer.run()
    return trainer.averages.averaged_state()


def score(
    config: Experiment, workspace: Workspace, weights: dict[str, torch.Tensor], name: str
) -> list[dict[str, float]]:
    """On a grid, for each lead, days: normalised RMSE of all fields together, and the power at the smallest scale."""
    grid = PreparedGrid.open(workspace, config.data, name)
    model = config.model.build(context_of(grid))
    model.load_state_dict(weights)
    stepper, times = Stepper(model, config.model), grid.store.indices(config.data.periods.test, "test")
    data = InferenceDataset(Rows(grid.store, grid.packing, times, "none"), "test", stepper.requirements)
    climatology = Climatology(grid.store, grid.statistics, grid.packing.n_prognostic_cells)
    emulator, steps = Emulator(stepper, data), round(max(LEADS) / grid.store.step_days)
    aggregator = InferenceEvaluatorAggregator(
        data,
        climatology,
        WeightedSums(grid.packing, grid.store.grid, (REGIONS["global"],)),
        data.starts(steps, 1),
        steps,
    )
    run_rollout(emulator, aggregator.starts, steps, [aggregator], 8)
    # In deviations of the grid itself, whatever the model is normalised by: the same for all models on it.
    own, std = read_statistics(store_path(workspace.statistics, name)), grid.prognostic_std()
    errors = normalised_rmse(aggregator.get_dataset(), std.copy(data=own.std[: len(std)])).sel(variable="all")
    power = _small_scale_power(grid, emulator, climatology, steps)
    return [{"days": lead, "nrmse": float(errors.sel(lead=lead)), "power": power[lead]} for lead in LEADS]


def _small_scale_power(
    grid: PreparedGrid, emulator: Emulator, climatology: Climatology, steps: int
) -> dict[float, float]:
    """Variance of the differences between neighbouring wet cells of anomalies, forecast / truth, mean over channels."""
    starts = emulator.data.starts(steps, steps)
    forecasts, ratios = list(emulator.forecast(starts, steps)), {}
    for lead in LEADS:
        step = round(lead / grid.store.step_days)
        usual = climatology.at([start + step for start in starts])
        predicted, truth = (
            grid.packing.to_fields((rows.cpu() - usual).numpy())
            for rows in (forecasts[step - 1], emulator.data.truth(starts, step))
        )
        ratios[lead] = float(np.mean([_roughness(predicted[name]) / _roughness(truth[name]) for name in truth]))
    return ratios


def _roughness(fields: np.ndarray) -> float:
    """Mean square of differences along both axes of [..., lat, lon], around the globe, where both cells are wet."""
    steps = (np.diff(fields, axis=-2), np.roll(fields, -1, axis=-1) - fields)
    return float(np.nanmean(np.concatenate([step.ravel() for step in steps]) ** 2))


def train_and_score(name: str, seed: int, epochs: int, workspace: Workspace) -> list[dict[str, Any]]:
    """Scores of one model on all grids that it is for."""
    torch.set_num_threads(1)
    preset, factor = TRAINED[name]
    config = experiment(preset, factor, seed, 2 * epochs if factor else epochs)
    weights = train(config, workspace, f"{preset}-{factor}-{seed}")
    return [
        {"model": name, "seed": seed, "grid": grid, **scores}
        for grid in config.data.grids
        for scores in score(config, workspace, weights, grid)
    ]


def main() -> None:
    """Prints a table, and writes all scores as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2, help="trainings side by side, a thread each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder), Path(folder))
        data = experiment("sample_fomo", None, 1, options.epochs).data
        prepare_all(data.replace(source=str(ROOT / data.source)), workspace)
        todo = [(name, seed, options.epochs, workspace) for seed in range(1, options.seeds + 1) for name in TRAINED]
        with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
            futures = [pool.submit(train_and_score, *task) for task in todo]
            records = [record for future in futures for record in future.result()]
    if options.json:
        options.json.write_text(json.dumps(records, indent=2) + "\n")
    table = pd.DataFrame(records).groupby(["days", "grid", "model"])[["nrmse", "power"]].agg(["mean", "min", "max"])
    print(table.round(4).to_string())


if __name__ == "__main__":
    main()
