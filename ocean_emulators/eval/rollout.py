"""The one loop of evaluation: whatever forecasts runs, and sinks take what comes out."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.errors import UserError
from ocean_emulators.forecasting.base import Forecaster


class Sink(Protocol):
    """Takes what a rollout predicts, step by step: scores it, writes it, looks at it."""

    def record(self, batch: slice, step: int, predicted: Tensor) -> None:
        """Rows [start, prognostic cell], physical units, predicted for step `step` (from 1) of the starts in `batch`."""
        ...


def run_rollout(
    forecaster: Forecaster,
    starts: Sequence[int],
    steps: int,
    sinks: Sequence[Sink],
    batch_size: int = 1,
    title: str = "rollout",
) -> None:
    """Let a forecaster predict `steps` steps from all starts, `batch_size` of them side by side.

    Memory holds one step of one batch, and what the sinks keep.
    """
    with tqdm(total=len(starts) * steps, desc=title, unit="step", leave=False, mininterval=1.0, disable=None) as bar:
        for first in range(0, len(starts), batch_size):
            batch = slice(first, min(first + batch_size, len(starts)))
            for step, predicted in enumerate(forecaster.forecast(starts[batch], steps), start=1):
                for sink in sinks:
                    sink.record(batch, step, predicted)
                bar.update(len(predicted))


class FiniteCheck:
    """Ends a rollout that has left the range of numbers: a sink of `run_rollout`, to stand before those that sum."""

    def __init__(self, data: InferenceDataset, starts: Sequence[int], shorten: str) -> None:
        """`shorten` is the setting by which such rollouts are made shorter."""
        self.data, self.starts, self.shorten = data, list(starts), shorten

    def record(self, batch: slice, step: int, predicted: Tensor) -> None:
        """See `Sink`.

        Raises
        ------
        UserError
            Naming channel, start and step of the first value that is not finite.
        """
        if bool(torch.isfinite(predicted).all()):
            return
        store, packing = self.data.rows.store, self.data.rows.packing
        start, cell = (~torch.isfinite(predicted)).nonzero()[0].tolist()
        channel = packing.prognostic[int(packing.channel_of_cell[cell])].name
        raise UserError(
            f"the emulator's forecast from {store.time[self.starts[batch][start]]} is not finite after {step} steps of "
            f"{store.step_days:g} days ({channel} first): it is unstable; train it for longer or with a lower learning rate, "
            f"on longer rollouts (train.rollout_steps), or shorten {self.shorten}"
        )
