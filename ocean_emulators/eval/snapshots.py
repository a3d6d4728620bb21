"""Keeps some times of a free run, with the truth, for maps."""

from collections.abc import Mapping

import xarray as xr
from torch import Tensor

from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.eval.writer import to_dataset


class Snapshots:
    """Truth and prediction of one rollout at some steps: a sink of `run_rollout`."""

    def __init__(self, data: InferenceDataset, start: int, steps: Mapping[str, int]) -> None:
        """`steps` are by the name of a snapshot, from 1; `start` is where the rollout begins."""
        self.data, self.start, self.steps = data, start, steps
        self.kept: dict[str, tuple[xr.Dataset, xr.Dataset]] = {}
        """by name, datasets of one time"""

    def record(self, batch: slice, step: int, predicted: Tensor) -> None:
        """See `Sink`."""
        for name, wanted in self.steps.items():
            if wanted == step:
                truth = self.data.truth([self.start], step)
                self.kept[name] = (self._field(truth, step), self._field(predicted, step))

    def _field(self, rows: Tensor, step: int) -> xr.Dataset:
        store, packing = self.data.rows.store, self.data.rows.packing
        time = store.time[self.start + step : self.start + step + 1]
        return to_dataset(rows.cpu().numpy(), time, store.grid, packing).isel(time=0)
