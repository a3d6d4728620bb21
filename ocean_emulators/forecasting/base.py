"""What predicts, and what a forecast is: rows of prognostic cells, physical units, for each start and step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.ocean import calendar
from ocean_emulators.registry import Registry

_BINS_HELD = 16


class Forecaster(Protocol):
    """Anything that predicts from states at given times of a store on."""

    def forecast(self, starts: Sequence[int], steps: int) -> Iterator[Tensor]:
        """For each step the predicted rows [start, prognostic cell], physical units."""
        ...


class Climatology:
    """The mean of the training period in each day-of-year bin, by time of a store; read as it is needed."""

    def __init__(self, store: PackedStore, statistics: Statistics, n_cells: int) -> None:
        """`n_cells` is the number of prognostic cells, with which rows begin."""
        self.bins, _ = calendar.day_of_year_bins(store.time, store.step_days)
        self.means, self.n_cells = statistics.climatology, n_cells
        self._bin = lru_cache(_BINS_HELD)(self._read)

    def at(self, times: Sequence[int]) -> Tensor:
        """[time, prognostic cell], physical units."""
        return torch.stack([self._bin(int(self.bins[time])) for time in times])

    def _read(self, day_of_year_bin: int) -> Tensor:
        return torch.from_numpy(np.asarray(self.means[day_of_year_bin, : self.n_cells]))


@dataclass(frozen=True)
class Past:
    """What a baseline may know: states up to the start of a forecast, and the training period."""

    store: PackedStore
    climatology: Climatology
    train: range
    """times of the training period"""

    def states(self, times: Sequence[int]) -> Tensor:
        """[time, prognostic cell], physical units."""
        n_cells = self.climatology.n_cells
        return torch.from_numpy(np.stack([self.store.rows(t, t + 1)[0, :n_cells] for t in times]))

    def anomalies(self, times: Sequence[int]) -> Tensor:
        """Departures from the climatology, [time, prognostic cell]."""
        return self.states(times) - self.climatology.at(times)


EMULATOR = "emulator"
"""What the emulator is called among forecasts."""

BASELINES: Registry[Callable[[Past], Forecaster]] = Registry("baseline", "ocean_emulators.forecasting.baselines")
"""What an emulator must beat, by name: made from what a baseline may know."""
