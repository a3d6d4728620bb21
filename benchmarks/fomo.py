"""One FOMO for two resolutions of the sample ocean, beside a Samudra of its size trained on each alone.

Trains all of them, with several seeds, a Samudra for twice the epochs: as many optimiser steps, since FOMO sees both
resolutions in each. Scores forecasts of the test period after one step and after 30 days: RMSE over standard deviation, all
fields together, and the power that is left at the smallest scale. This takes an hour on two cores; it is no part of
`make benchmarks`.
"""

import argparse
import json
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from ocean_emulators.aggregator.scores import normalised_rmse
from ocean_emulators.eval.eval import Emulator

from ocean_emulators import workspace as paths
from ocean_emulators.aggregator.inference import InferenceEvaluatorAggregator, scoring_parts
from ocean_emulators.build import Ocean, open_ocean
from ocean_emulators.config.base import parse
from ocean_emulators.config.overrides import apply_overrides
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.statistics.normalisation import read_statistics
from ocean_emulators.experiment import Experiment
from ocean_emulators.models.base import OceanContext
from ocean_emulators.parallel import Resources
from ocean_emulators.runtime import Runtime
from ocean_emulators.stages import prepare, stats
from ocean_emulators.stages.train import build_trainer
from ocean_emulators.stepper import Stepper
from ocean_emulators.train.trainer import averaged_state_dict

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


def train(config: Experiment, checkpoint: Path) -> dict[str, torch.Tensor]:
    """The averaged weights."""
    oceans = [open_ocean(config.data, torch.device("cpu"), factor) for factor in config.trained]
    trainer = build_trainer(config, oceans, Runtime(device="cpu"), checkpoint, lambda epoch, logs: None)
    trainer.run()
    return averaged_state_dict(trainer.stepper.model, trainer.ema)


def score(config: Experiment, weights: dict[str, torch.Tensor], factor: int) -> list[dict[str, float]]:
    """For each lead, days: normalised RMSE of all fields together, and the power at the smallest scale."""
    ocean = open_ocean(config.data, torch.device("cpu"), factor)
    model = config.model.build(OceanContext.of(ocean.packing, ocean.statistics, ocean.store.grid, ocean.name))
    model.load_state_dict(weights)
    stepper, period = Stepper(model, config.model), config.data.periods.test
    rows = Rows(ocean.store, ocean.packing, ocean.store.indices(period, "test"), "host")
    data = InferenceDataset(rows, period, "test", stepper.requirements)
    emulator, steps = Emulator(stepper, data), round(max(LEADS) / ocean.store.step_days)
    errors, power = _errors(ocean, data, emulator, steps), _small_scale_power(ocean, emulator, steps)
    return [{"days": lead, "nrmse": errors[lead], "power": power[lead]} for lead in LEADS]


def _small_scale_power(ocean: Ocean, emulator: Emulator, steps: int) -> dict[float, float]:
    """Variance of the differences between neighbouring wet cells of anomalies, forecast / truth, mean over channels."""
    starts = emulator.data.starts(steps, steps)
    seasons, _ = scoring_parts(ocean.store, ocean.statistics, ocean.packing)
    forecasts, ratios = list(emulator.forecast(starts, steps)), {}
    for lead in LEADS:
        step = round(lead / ocean.store.step_days)
        season = seasons.at([start + step for start in starts])
        predicted, truth = (
            ocean.packing.to_fields((rows.cpu() - season).numpy())
            for rows in (forecasts[step - 1], emulator.data.truth(starts, step))
        )
        ratios[lead] = float(np.mean([_roughness(predicted[name]) / _roughness(truth[name]) for name in truth]))
    return ratios


def _roughness(fields: np.ndarray) -> float:
    """Mean square of differences along both axes of [..., lat, lon], around the globe, where both cells are wet."""
    steps = (np.diff(fields, axis=-2), np.roll(fields, -1, axis=-1) - fields)
    return float(np.nanmean(np.concatenate([step.ravel() for step in steps]) ** 2))


def _errors(ocean: Ocean, data: InferenceDataset, emulator: Emulator, steps: int) -> dict[float, float]:
    seasons, sums = scoring_parts(ocean.store, ocean.statistics, ocean.packing)
    aggregator = InferenceEvaluatorAggregator(data, seasons, sums, data.starts(steps, 1), steps)
    errors = normalised_rmse(aggregator.score(emulator, 8).get_dataset(), _own_std(ocean)).sel(variable="all")
    return {lead: float(errors.sel(lead=lead)) for lead in LEADS}


def _own_std(ocean: Ocean) -> xr.DataArray:
    """Of the grid itself, whatever the model is normalised by: the same for all models on it."""
    std = ocean.prognostic_std()
    moments = read_statistics(paths.STATISTICS / ocean.store.path.name)
    return std.copy(data=moments.std[: len(std)])


def train_and_score(name: str, seed: int, epochs: int) -> list[dict[str, Any]]:
    """Scores of one model on all grids that it is for."""
    torch.set_num_threads(1)
    preset, factor = TRAINED[name]
    config = experiment(preset, factor, seed, 2 * epochs if factor else epochs)
    weights = train(config, Path(f"{preset}-{factor}-{seed}.pt"))
    return [
        {"model": name, "seed": seed, "grid": f"x{grid}", **scores}
        for grid in ((factor,) if factor else (1, 2, UNSEEN))
        for scores in score(config, weights, grid)
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
        os.chdir(folder)
        Path("data").mkdir()
        Path("data/sample").symlink_to(ROOT / "data" / "sample")
        _prepare(experiment("sample_fomo", None, 1, 1))
        todo = [(name, seed, options.epochs) for seed in range(1, options.seeds + 1) for name in TRAINED]
        with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
            futures = [pool.submit(train_and_score, *task) for task in todo]
            records = [record for future in futures for record in future.result()]
    if options.json:
        options.json.write_text(json.dumps(records, indent=2) + "\n")
    table = pd.DataFrame(records).groupby(["days", "grid", "model"])[["nrmse", "power"]].agg(["mean", "min", "max"])
    print(table.round(4).to_string())


def _prepare(config: Experiment) -> None:
    Path("params.yaml").write_text(json.dumps(config.dump()))
    prepare.main(Resources())
    stats.main(Resources())


if __name__ == "__main__":
    main()
