"""Training, from prepared data to a checkpoint and its history."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ocean_emulators.build import build_trainer, open_grids
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.jobs.base import Report, leaving_results
from ocean_emulators.jobs.contents import contents
from ocean_emulators.runtime import Runtime
from ocean_emulators.train.checkpoints import Checkpoint
from ocean_emulators.train.config import TrainSections
from ocean_emulators.train.trainer import BrokenState, Trainer, averaged_state_dict
from ocean_emulators.workspace import TrainingFiles, Workspace


@dataclass(frozen=True)
class TrainJob:
    """Trains an emulator; see `Job`."""

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
        grids = open_grids(self.workspace, self.sections, self.runtime.start())
        epochs = self.sections.train.epochs

        def after_epoch(epoch: int, logs: dict[str, float]) -> None:
            print(
                f"epoch {epoch}/{epochs}: loss {logs['train/mean/loss']:.4f}, "
                f"validation {logs['val/mean/loss']:.4f}, {logs['train/seconds']:.1f} s",
                flush=True,
            )
            report(logs, epoch)

        trainer = build_trainer(
            self.sections, grids, self.runtime, self.workspace, self.folder / "last.pt", after_epoch
        )
        if resume(trainer):
            print(f"resuming after epoch {trainer.epoch} of {epochs}", flush=True)
            # The interruption may have come after the epoch was saved and before it was recorded.
            report(trainer.history[-1], trainer.epoch)
        trainer.run()
        with leaving_results(self) as folder:
            write_results(trainer, self.sections, next(iter(grids.values())), TrainingFiles(folder))


def resume(trainer: Trainer) -> bool:
    """Go back to the saved state, if there is one; one that is damaged is put aside, and training begins anew."""
    try:
        return trainer.resume()
    except BrokenState as error:
        kept = trainer.checkpoint.with_suffix(f".damaged-{time.strftime('%Y%m%dT%H%M%S')}.pt")
        trainer.checkpoint.rename(kept)
        warning = f"warning: {error}; it is kept as {kept.name} until the training is done, which begins anew"
        print(warning, file=sys.stderr, flush=True)
        return False


def write_results(trainer: Trainer, sections: TrainSections, grid: PreparedGrid, files: TrainingFiles) -> None:
    """The checkpoint that is handed on, and a row of the history for each epoch."""
    history = pd.DataFrame(trainer.history, columns=trainer.logged)
    history.insert(0, "epoch", range(1, len(history) + 1))
    history.to_csv(files.history, index=False)
    model = trainer.stepper.model
    averaged = averaged_state_dict(model, trainer.ema)
    Checkpoint.of(grid, sections.read, model.state_dict(), averaged).save(files.checkpoint)
