"""`ocean-emulators import`: makes released weights an experiment."""

import argparse
import os
from pathlib import Path
from typing import Any

import torch

from ocean_emulators.cli import data as cli_data
from ocean_emulators.cli.configure import write_experiment
from ocean_emulators.config.base import parse
from ocean_emulators.config.overrides import apply_overrides
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment
from ocean_emulators.files import sha256
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.released.layouts import FORCING, Layout, possible_levels, read_layout
from ocean_emulators.models.released.weights import read_weights
from ocean_emulators.models.samudra import Samudra, SamudraConfig
from ocean_emulators.workspace import PARAMS


def import_weights(options: argparse.Namespace) -> None:
    """Render `params.yaml` for released weights: an experiment that evaluates them as they are."""
    path, preset = options.checkpoint, cli_data.presets(options.data)[options.data]
    weights = read_weights(path, averaged=not options.raw)
    levels = tuple(range(options.levels)) if options.levels else preset.levels
    fits = options.levels or len(levels) in possible_levels(weights).values()
    layout = read_layout(weights, levels if fits else None)
    tree = _experiment(layout, preset, path, averaged=not options.raw).dump()
    experiment = parse(Experiment, apply_overrides(Experiment, tree, options.overrides), str(path))
    if not isinstance(experiment.model, SamudraConfig):
        raise UserError(f"{path}: weights of a Samudra, which a model of type {experiment.model.family} can't take")
    data = experiment.data
    with torch.device("meta"):
        ocean = OceanContext.anywhere(len(data.prognostic_channels), len(data.forcing_channels))
        weights.require_fit(Samudra(experiment.model, ocean))
    header = (
        f"The whole experiment, rendered from the weights {path.name} by `ocean-emulators import` on the data of\n"
        f"{cli_data.PRESETS.as_posix()}/{options.data}.yaml. More epochs fine-tune them."
    )
    write_experiment(experiment, options.output, header)
    print("\n".join(_supposed(experiment, experiment.model)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Put the arguments of `import` on its parser."""
    parser.add_argument("checkpoint", type=Path, help="a file with released weights of Samudra or Samudra 2")
    parser.add_argument("overrides", nargs="*", metavar="a.b=value", help="changes to the experiment that is made")
    parser.add_argument(
        "--data",
        default="om4_onedeg",
        help=f"what to evaluate them on, a name in {cli_data.PRESETS}/ (default: %(default)s)",
    )
    parser.add_argument(
        "--levels", type=_positive, help="number of levels of the fields, where their channels leave a choice"
    )
    parser.add_argument("--raw", action="store_true", help="take the raw weights, not their moving average")
    parser.add_argument("--output", type=Path, default=PARAMS, help="where to write (default: %(default)s)")
    parser.set_defaults(run=import_weights)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"found {text}: expected 1 or more")
    return number


def _experiment(layout: Layout, preset: DataConfig, path: Path, averaged: bool) -> Experiment:
    # What the published weights saw: statistics of all times, and anomalies from the mean annual cycle of all times.
    data: dict[str, Any] = {"prognostic": layout.prognostic, "forcing": layout.forcing, "levels": layout.levels}
    data["statistics"] = {**preset.statistics.dump(), "period": "all"}
    data["anomaly_period"] = "all" if FORCING[3] in layout.forcing else preset.anomaly_period
    initial = {"path": Path(os.path.relpath(path)).as_posix(), "sha256": sha256(path), "averaged": averaged}
    # As the published models were run: in bfloat16 those for high resolution, which alone have instance norm.
    run = {"precision": "bfloat16" if layout.config.norm == "instance" else "float32", "checkpointing": "layers"}
    tree = {
        "name": path.stem,
        "data": preset.dump() | data,
        "model": layout.config.dump() | run,
        "train": {
            "initial_weights": initial,
            "epochs": 0,
            "batch_size": 1,
            "rollout_steps": [1],
            "learning_rate": 2e-4,
        },
    }
    return parse(Experiment, tree, str(path))


def _supposed(experiment: Experiment, model: SamudraConfig) -> list[str]:
    """What the checkpoint does not say, for a reader to check."""
    statistics = experiment.data.statistics
    lines = [
        "The weights do not say these, which are taken as they were published; give KEY=VALUE for others:",
        f"  model.dilation={list(model.dilation)} model.upsampling={model.upsampling} model.norm={model.norm}",
        f"  model.precision={model.precision}",
        f"  data.prognostic={list(experiment.data.prognostic)} data.forcing={list(experiment.data.forcing)}",
    ]
    if statistics.published_means is None:
        lines.append(
            "Fields will be normalised by statistics of the periods named; for the very ones that the weights were trained "
            "with, give data.statistics.published_means=OM4_means.zarr data.statistics.published_stds=OM4_stds.zarr"
        )
    return lines
