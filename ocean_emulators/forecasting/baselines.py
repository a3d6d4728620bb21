"""What an emulator must beat: persistence, anomaly persistence (damped and not), and day-of-year climatology.

Each gives rows like the Stepper's `inference`, so that the same code scores all of them.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from ocean_emulators.datasets.config import Period
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.ocean import calendar

BaselineName = Literal["persistence", "anomaly_persistence", "damped_anomaly_persistence", "climatology"]


_SEASONS_HELD = 16


class Seasons:
    """The climatology by time of the store: rows of prognostic cells, read as they are needed."""

    def __init__(self, store: PackedStore, statistics: Statistics, n_cells: int) -> None:
        self.bins, _ = calendar.season_bins(store.time, store.step_days)
        self.climatology, self.n_cells = statistics.climatology, n_cells
        self._season = lru_cache(_SEASONS_HELD)(self._read)

    def at(self, times: Sequence[int]) -> Tensor:
        """[time, prognostic cell], physical units."""
        return torch.stack([self._season(int(self.bins[time])) for time in times])

    def _read(self, season: int) -> Tensor:
        return torch.from_numpy(np.asarray(self.climatology[season, : self.n_cells]))


class Forecaster(Protocol):
    """Anything that predicts from states at given times of the store on."""

    def forecast(self, starts: Sequence[int], steps: int) -> Iterator[Tensor]:
        """For each step the predicted rows [start, prognostic cell], physical units."""
        ...


class Baseline:
    """x(t + l) = climatology(t + l) + r(l) · (x(t) - climatology(t)), or x(t) itself for plain persistence."""

    def __init__(self, name: BaselineName, store: PackedStore, seasons: Seasons, train: Period, steps: int) -> None:
        """`steps` is the longest lead; damped persistence learns its factors from the training period."""
        self.name, self.store, self.seasons = name, store, seasons
        self.n_cells = seasons.n_cells
        damped = name == "damped_anomaly_persistence"
        self.damping = lag_regression(store, seasons, train, steps) if damped else None

    def forecast(self, starts: Sequence[int], steps: int) -> Iterator[Tensor]:
        """See `Forecaster`."""
        state = torch.from_numpy(np.stack([self.store.rows(s, s + 1)[0, : self.n_cells] for s in starts]))
        anomaly = state - self.seasons.at(starts)
        for step in range(1, steps + 1):
            season = self.seasons.at([s + step for s in starts])
            match self.name:
                case "persistence":
                    yield state
                case "climatology":
                    yield season
                case "anomaly_persistence":
                    yield season + anomaly
                case "damped_anomaly_persistence":
                    assert self.damping is not None
                    yield season + self.damping[step - 1] * anomaly


def lag_regression(store: PackedStore, seasons: Seasons, train: Period, steps: int) -> Tensor:
    """Regression of the anomaly `l` steps later on the anomaly, for each cell: [lag, prognostic cell], lag from 1.

    r(l) = Σ a(t) a(t + l) / Σ a(t)², over the pairs of the training period. Reads the period once.
    """
    times = store.indices(train, "train")
    recent: list[Tensor] = []  # the last `steps` anomalies, newest first
    product = torch.zeros(steps, seasons.n_cells)
    square = torch.zeros_like(product)
    for time in times:
        row = torch.from_numpy(store.rows(time, time + 1)[0, : product.shape[1]])
        anomaly = row - seasons.at([time])[0]
        for lag, earlier in enumerate(recent):
            product[lag] += earlier * anomaly
            square[lag] += earlier**2
        recent = [anomaly, *recent][:steps]
    return torch.where(square > 0, product / square.clamp(min=torch.finfo().tiny), 0.0)
