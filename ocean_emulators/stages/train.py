"""Stage `train`: from prepared data to a checkpoint and its history."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ocean_emulators import workspace as paths
from ocean_emulators.aggregator.train import TrainAggregator
from ocean_emulators.aggregator.validate import ValidateAggregator
from ocean_emulators.build import Ocean, open_ocean
from ocean_emulators.config.base import digest
from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.loading.train_data import TrainData, Windows
from ocean_emulators.experiment import Experiment, count_windows, load_experiment
from ocean_emulators.losses.masked import MaskedLoss
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.released.weights import read_weights
from ocean_emulators.runtime import Runtime
from ocean_emulators.stepper import Stepper
from ocean_emulators.tracking import Tracker, open_tracker
from ocean_emulators.tracking.provenance import code_hash, project_root
from ocean_emulators.train.checkpoints import save_checkpoint
from ocean_emulators.train.trainer import InitialWeights, Report, Trainer, averaged_state_dict

SECTIONS = ("data", "model", "train")


def main(runtime: Runtime) -> None:
    """Train, or go on where an equal run was interrupted, and leave the result in `outputs/train`."""
    experiment = load_experiment()
    device = runtime.start()
    oceans = [open_ocean(experiment.data, device, factor) for factor in experiment.trained]
    count_windows(experiment, oceans[0].store.time)  # refuse what evaluation could not do before training for it
    scratch = scratch_folder(experiment, digest([ocean.statistics.fingerprint for ocean in oceans]))
    with open_tracker(experiment.name, oceans[0].provenance(experiment), "train") as tracker:
        trainer = build_trainer(experiment, oceans, runtime, scratch / "last.pt", _reporter(experiment, tracker))
        if trainer.resume():
            print(f"continuing behind epoch {trainer.epoch} of {experiment.train.epochs}", flush=True)
            # The interruption may have come after the epoch was saved and before it was recorded.
            tracker.log_metrics(trainer.history[-1], step=trainer.epoch)
        trainer.run()
        _write_results(experiment, oceans[0], trainer)
    shutil.rmtree(scratch, ignore_errors=True)


def scratch_folder(experiment: Experiment, data: str) -> Path:
    """Where a training keeps its working state: one place for each combination of configuration, data and code."""
    return project_root() / ".scratch" / digest(experiment.sections(*SECTIONS), data, code_hash())


def build_trainer(
    experiment: Experiment, oceans: Sequence[Ocean], runtime: Runtime, checkpoint: Path, report: Report
) -> Trainer:
    """Put a training on resolutions of an ocean, the first one first, together."""
    torch.manual_seed(experiment.train.seed)
    device, channels = oceans[0].packing.device, oceans[0].store.prognostic
    model = experiment.model.build(*map(_context, oceans)).to(device)
    if experiment.train.initial_weights:
        _begin_from(experiment.train.initial_weights, model, oceans[0])
    stepper = Stepper(
        model,
        experiment.model,
        {ocean.name: _loss(experiment, ocean) for ocean in oceans},
        experiment.train.detach_every,
        {ocean.name: _input_noise(experiment, ocean) for ocean in oceans} if experiment.train.input_noise else {},
    )
    calls, strides = experiment.train.rollout_calls, experiment.train.strides
    cache = runtime.cache if experiment.train.epochs else "none"  # nothing is read where nothing is learnt

    def rows(ocean: Ocean, name: str) -> Rows:
        period = getattr(experiment.data.periods, name)
        return Rows(ocean.store, ocean.packing, ocean.store.indices(period, name), cache)

    def windows(rows: Rows, name: str, n: int, strides: Sequence[int]) -> Windows:
        return Windows(rows, name, stepper.requirements, n, strides)

    train = {ocean.name: rows(ocean, "train") for ocean in oceans}
    validation = {ocean.name: rows(ocean, "validation") for ocean in oceans}
    grids = tuple(train)
    return Trainer(
        experiment.train,
        stepper,
        [TrainData({grid: windows(part, "train", n, strides) for grid, part in train.items()}) for n in calls],
        TrainData({grid: windows(part, "validation", calls[-1], (1,)) for grid, part in validation.items()}),
        runtime.prefetch,
        TrainAggregator(channels, grids),
        ValidateAggregator(channels, grids),
        checkpoint,
        report,
    )


def _begin_from(initial: InitialWeights, model: nn.Module, ocean: Ocean) -> None:
    weights = read_weights(initial.find(project_root()), initial.averaged)
    weights.require_channels([c.name for c in ocean.store.channels])
    weights.put_into(model)


def _context(ocean: Ocean) -> OceanContext:
    return OceanContext.of(ocean.packing, ocean.statistics, ocean.store.grid, ocean.name)


def _loss(experiment: Experiment, ocean: Ocean) -> MaskedLoss:
    channels = ocean.store.prognostic
    area = torch.as_tensor(np.stack([ocean.store.grid.wet_area(c.mask_level) for c in channels]))
    loss = experiment.train.loss.build(_context(ocean), [c.field.name for c in channels], area)
    return loss.to(ocean.packing.device)


def _input_noise(experiment: Experiment, ocean: Ocean) -> Tensor:
    """Standard deviation, [channel, lat, lon], normalised."""
    scale = experiment.train.input_noise * _context(ocean).change_scale[:, None, None]
    return scale.to(ocean.packing.device) * ocean.packing.prognostic_mask


def _reporter(experiment: Experiment, tracker: Tracker) -> Report:
    def report(epoch: int, logs: dict[str, float]) -> None:
        print(
            f"epoch {epoch}/{experiment.train.epochs}: loss {logs['train/mean/loss']:.4f}, "
            f"validation {logs['val/mean/loss']:.4f}, {logs['train/seconds']:.1f} s",
            flush=True,
        )
        tracker.log_metrics(logs, step=epoch)

    return report


def _write_results(experiment: Experiment, ocean: Ocean, trainer: Trainer) -> None:
    paths.TRAIN.mkdir(parents=True, exist_ok=True)
    history = pd.DataFrame(trainer.history, columns=trainer.logged)
    history.insert(0, "epoch", range(1, len(history) + 1))
    history.to_csv(paths.HISTORY, index=False)
    model = trainer.stepper.model
    n = len(ocean.store.prognostic)
    content = {
        "config": experiment.sections(*SECTIONS),
        "data_fingerprint": ocean.statistics.fingerprint,
        "channels": [c.name for c in ocean.store.channels],
        "n_prognostic": n,
        "mean": torch.from_numpy(ocean.statistics.mean),
        "std": torch.from_numpy(ocean.statistics.std),
        "change_std": torch.from_numpy(ocean.statistics.change_std),
        "model": {name: tensor.cpu() for name, tensor in model.state_dict().items()},
        "averaged_model": {name: t.cpu() for name, t in averaged_state_dict(model, trainer.ema).items()},
    }
    save_checkpoint(content, paths.CHECKPOINT)
