"""Training, from prepared data to a checkpoint and its history."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import xarray as xr
from torch import Tensor

from ocean_emulators.build import build_trainer, open_grids
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.distributed import Ranks
from ocean_emulators.errors import UserError
from ocean_emulators.jobs.base import Report, leaving_results
from ocean_emulators.jobs.contents import contents
from ocean_emulators.runtime import Runtime
from ocean_emulators.sealing import write_sealed
from ocean_emulators.train.checkpoints import Checkpoint
from ocean_emulators.train.config import TrainSections
from ocean_emulators.train.parts import QUIET, Reports
from ocean_emulators.train.trainer import Trainer
from ocean_emulators.workspace import TrainingFiles, Workspace


@dataclass(frozen=True)
class TrainJob:
    """Trains an emulator, alone or, where RANK and its like are set, as one rank of several; see `Job`."""

    sections: TrainSections
    workspace: Workspace
    runtime: Runtime
    folder: Path

    @classmethod
    def of(cls, sections: TrainSections, workspace: Workspace, runtime: Runtime) -> "TrainJob":
        """The job of an experiment on the data that are prepared now."""
        content = contents(workspace, sections.data, "train", "validation")
        return cls(sections, workspace, runtime, workspace.scratch_of("train", sections.dump(), *content))

    def run(self, report: Report) -> None:
        """See `Job`."""
        ranks = Ranks.from_environment()
        device = self.runtime.start(ranks.local_rank)
        with ranks.joined(device, self.runtime.patience_s):
            grids = open_grids(self.workspace, self.sections, device)
            reports = self._reports(report) if ranks.first else QUIET
            build = partial(build_trainer, self.sections, grids, self.runtime, self.workspace)
            if self.runtime.repeat_batch:
                _try_one_batch(build, self.folder / "one_batch", ranks)
                return
            trainer = build(self.folder / "states", reports, ranks)
            if trainer.resume() and ranks.first:
                self._tell_resumed(trainer, report)
            trainer.run()
            weights = trainer.weights()
            maps = trainer.validation_maps(weights[1])
            if ranks.first:
                with leaving_results(self) as folder:
                    files = TrainingFiles(folder)
                    write_results(trainer, self.sections, next(iter(grids.values())), files, weights)
                    write_maps(maps, files)
                print(*trainer.ledger.lines(), sep="\n", flush=True)

    def _reports(self, report: Report) -> Reports:
        epochs = self.sections.train.epochs

        def epoch(number: int, logs: dict[str, float]) -> None:
            validation = f", validation {logs['val/mean/loss']:.4f}" if "val/mean/loss" in logs else ""
            loss, seconds = logs["train/mean/loss"], logs["train/seconds"]
            print(f"epoch {number}/{epochs}: loss {loss:.4f}{validation}, {seconds:.1f} s", flush=True)
            report(logs, number)

        def progress(step: int, logs: dict[str, float]) -> None:
            if "val/mean/loss" in logs:
                print(f"step {step}: validation {logs['val/mean/loss']:.4f}", flush=True)
            # An epoch's numbers have the same names, and a step of theirs the same number.
            report({f"step/{name}" if name.startswith("val/") else name: value for name, value in logs.items()}, step)

        return Reports(epoch, progress)

    def _tell_resumed(self, trainer: Trainer, report: Report) -> None:
        place = trainer.place
        within = f" and {place.position} batches of the next" if place.position else ""
        print(f"resuming after epoch {place.epoch} of {self.sections.train.epochs}{within}", flush=True)
        if place.history:
            # The interruption may have come after the epoch was saved and before it was recorded.
            report(place.history[-1], place.epoch)


def _try_one_batch(build: Callable[[Path, Reports, Ranks], Trainer], states: Path, ranks: Ranks) -> None:
    """Train an epoch on one batch; raises a UserError that says how fast it was, so that nobody takes it for a training."""
    figures: dict[str, float] = {}
    trainer = build(states, Reports(lambda number, logs: figures.update(logs)), ranks)
    try:
        trainer.run(epochs=1)
    finally:
        if ranks.first:
            shutil.rmtree(states, ignore_errors=True)
    if ranks.first:
        windows = trainer.place.step * trainer.config.batch_size
        seconds = figures["train/time/compute"] + figures["train/time/data"]
        print(*trainer.ledger.lines(), sep="\n", flush=True)
        raise UserError(
            f"runtime.repeat_batch: an epoch on its first batch alone took {seconds:.1f} s ({windows / seconds:.3g} samples/s, "
            f"{figures['train/compute/flops_per_second']:.3g} FLOP/s, {figures['train/compute/share_of_peak']:.0%} of the "
            "device's peak): what an ordinary epoch takes longer is what loading costs. No emulator comes out of this; set it "
            "to false to train one"
        )


def write_results(
    trainer: Trainer,
    sections: TrainSections,
    grid: PreparedGrid,
    files: TrainingFiles,
    weights: tuple[dict[str, Tensor], dict[str, Tensor]],
) -> None:
    """The checkpoint that is handed on, of raw and averaged weights, and a row of the history for each epoch."""
    history = pd.DataFrame(trainer.place.history, columns=[*trainer.logged])
    history.insert(0, "epoch", range(1, len(history) + 1))
    history.to_csv(files.history, index=False)
    Checkpoint.of(grid, sections.read, *weights).save(files.checkpoint)


def write_maps(maps: Mapping[str, xr.Dataset], files: TrainingFiles) -> None:
    """Of the validation, a store for each grid: figures are drawn from them when the emulator is evaluated."""
    files.validation_maps.mkdir()
    for name, of_grid in maps.items():
        write_sealed(of_grid, files.validation_maps / f"{name}.zarr", zarr_format=2)
