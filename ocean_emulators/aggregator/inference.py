"""Collects what rollouts are scored by, while they run."""

from collections.abc import Sequence

import xarray as xr
from torch import Tensor

from ocean_emulators.aggregator.sums import SumsOfRollouts, WeightedSums
from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.forecasting.base import Climatology


class InferenceEvaluatorAggregator:
    """Weighted sums of rollouts of `steps` steps from `starts`, a sink of `run_rollout`.

    It takes rows as they come; the truth and the climatology of the same times are read here, once.
    """

    def __init__(
        self,
        data: InferenceDataset,
        climatology: Climatology,
        sums: WeightedSums,
        starts: Sequence[int],
        steps: int,
    ) -> None:
        self.data, self.climatology, self.starts = data, climatology, list(starts)
        self.collected = SumsOfRollouts(sums, len(self.starts), steps)

    def record(self, batch: slice, step: int, predicted: Tensor) -> None:
        """See `Sink`."""
        starts = self.starts[batch]
        truth = self.data.truth(starts, step)
        climatology = self.climatology.at([start + step for start in starts]).to(predicted.device)
        self.collected.record(batch, step, predicted, truth, climatology)

    def get_dataset(self) -> xr.Dataset:
        """The sums, see `SumsOfRollouts.to_dataset`."""
        store = self.data.rows.store
        return self.collected.to_dataset([store.time[start] for start in self.starts], store.step_days)
