"""Scores rollouts while they run."""

from collections.abc import Sequence

import xarray as xr
from torch import Tensor

from ocean_emulators.aggregator.sums import SumsOfRollouts, WeightedSums
from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.forecasting.baselines import Forecaster, Seasons
from ocean_emulators.ocean.regions import SCORE_REGIONS


def scoring_parts(store: PackedStore, statistics: Statistics, packing: Packing) -> tuple[Seasons, WeightedSums]:
    """What every scoring needs, for emulator and baselines alike."""
    seasons = Seasons(store, statistics, packing.n_prognostic_cells)
    return seasons, WeightedSums(packing, store.grid, SCORE_REGIONS)


class InferenceEvaluatorAggregator:
    """Collects weighted sums of rollouts of `steps` steps from `starts`, a batch of starts at a time.

    `record` takes rows as they come; the truth and climatology of the same times are read here, once.
    """

    def __init__(
        self, data: InferenceDataset, seasons: Seasons, sums: WeightedSums, starts: Sequence[int], steps: int
    ) -> None:
        self.data, self.seasons, self.starts, self.steps = data, seasons, list(starts), steps
        self.collected = SumsOfRollouts(sums, len(self.starts), steps)

    def record(self, batch: slice, step: int, predicted: Tensor) -> None:
        """Rows [start, prognostic cell] predicted for step `step` (from 1) of the starts in `batch`."""
        starts = self.starts[batch]
        truth = self.data.truth(starts, step)
        season = self.seasons.at([s + step for s in starts]).to(predicted.device)
        self.collected.record(batch, step, predicted, truth, season)

    def score(self, forecaster: Forecaster, batch_size: int) -> "InferenceEvaluatorAggregator":
        """Let a forecaster predict from all starts, `batch_size` at a time."""
        for first in range(0, len(self.starts), batch_size):
            batch = slice(first, min(first + batch_size, len(self.starts)))
            for step, predicted in enumerate(forecaster.forecast(self.starts[batch], self.steps), start=1):
                self.record(batch, step, predicted)
        return self

    def get_dataset(self) -> xr.Dataset:
        """The sums, see `SumsOfRollouts.to_dataset`."""
        store = self.data.rows.store
        return self.collected.to_dataset([store.time[s] for s in self.starts], store.step_days)
