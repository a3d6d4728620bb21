"""Stage `train`: from prepared data to a checkpoint and its history."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ocean_emulators.aggregator.train import TrainAggregator
from ocean_emulators.aggregator.validate import ValidateAggregator
from ocean_emulators.checkpoints import save_checkpoint
from ocean_emulators.config.base import digest
from ocean_emulators.datasets.rows import Rows
from ocean_emulators.datasets.train_data import TrainData, Windows
from ocean_emulators.experiment import Experiment, count_windows, load_experiment
from ocean_emulators.models.base import OceanContext
from ocean_emulators.runtime import Runtime
from ocean_emulators.stages import paths
from ocean_emulators.stages.wiring import Ocean, open_ocean
from ocean_emulators.stepper import Stepper
from ocean_emulators.tracking import Tracker, open_tracker
from ocean_emulators.tracking.provenance import code_hash, project_root
from ocean_emulators.train import Report, Trainer, averaged_state_dict

SECTIONS = ("data", "model", "train")


def main(runtime: Runtime) -> None:
    """Train, or go on where an equal run was interrupted, and leave the result in `outputs/train`."""
    experiment = load_experiment()
    device = runtime.start()
    ocean = open_ocean(experiment.data, device)
    count_windows(experiment, ocean.store.time)  # refuse what evaluation could not do before training for it
    scratch = scratch_folder(experiment, ocean.statistics.fingerprint)
    with open_tracker(experiment.name, ocean.provenance(experiment), "train") as tracker:
        trainer = build_trainer(experiment, ocean, runtime, scratch / "last.pt", _reporter(experiment, tracker))
        if trainer.resume():
            print(f"continuing behind epoch {trainer.epoch} of {experiment.train.epochs}", flush=True)
            # The interruption may have come after the epoch was saved and before it was recorded.
            tracker.log_metrics(trainer.history[-1], step=trainer.epoch)
        trainer.run()
        _write_results(experiment, ocean, trainer)
    shutil.rmtree(scratch, ignore_errors=True)


def scratch_folder(experiment: Experiment, data: str) -> Path:
    """Where a training keeps its working state: one place for each combination of configuration, data and code."""
    return project_root() / ".scratch" / digest(experiment.sections(*SECTIONS), data, code_hash())


def build_trainer(experiment: Experiment, ocean: Ocean, runtime: Runtime, checkpoint: Path, report: Report) -> Trainer:
    """Put a training together."""
    torch.manual_seed(experiment.train.seed)
    device = ocean.packing.mask.device
    context = OceanContext.of(ocean.packing, ocean.statistics, ocean.store.grid)
    model = experiment.model.build(context).to(device)
    channels = ocean.store.prognostic
    area = torch.as_tensor(np.stack([ocean.store.grid.wet_area(c.mask_level) for c in channels]))
    loss = experiment.train.loss.build(context, [c.field.name for c in channels], area).to(device)
    noise = experiment.train.input_noise * context.change_scale[:, None, None].to(device)
    stepper = Stepper(
        model,
        experiment.model,
        loss,
        experiment.train.detach_every,
        noise * ocean.packing.prognostic_mask,
    )
    calls, strides = experiment.train.rollout_calls, experiment.train.strides
    periods = experiment.data.periods
    train, validation = (
        Rows(ocean.store, ocean.packing, ocean.store.indices(period, name), runtime.cache)
        for name, period in (("train", periods.train), ("validation", periods.validation))
    )
    return Trainer(
        experiment.train,
        stepper,
        [TrainData([Windows(train, periods.train, "train", stepper.requirements, n, strides)]) for n in calls],
        TrainData([Windows(validation, periods.validation, "validation", stepper.requirements, calls[-1])]),
        runtime.ahead,
        TrainAggregator(channels),
        ValidateAggregator(channels),
        checkpoint,
        report,
    )


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
    history = pd.DataFrame(trainer.history)
    history.insert(0, "epoch", range(1, len(history) + 1))
    history.drop(columns="train/seconds").to_csv(paths.HISTORY, index=False)
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
