"""A trained emulator that forecasts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.stepper import Stepper


@dataclass(frozen=True)
class Emulator:
    """Free rollouts of a Stepper: a `Forecaster`."""

    stepper: Stepper
    data: InferenceDataset

    def forecast(self, starts: Sequence[int], steps: int) -> Iterator[Tensor]:
        """See `Forecaster`."""
        return map(self.data.rows.packing.pack, self.stepper.inference(self.data, starts, steps))
