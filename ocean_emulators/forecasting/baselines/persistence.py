"""Persistence: the ocean stays as it is."""

from collections.abc import Iterator, Sequence
from itertools import repeat

from torch import Tensor

from ocean_emulators.forecasting.base import BASELINES, Past


@BASELINES.register("persistence")
class Persistence:
    """x(t + l) = x(t)."""

    def __init__(self, past: Past) -> None:
        self.past = past

    def forecast(self, starts: Sequence[int], steps: int) -> Iterator[Tensor]:
        """See `Forecaster`."""
        return repeat(self.past.states(starts), steps)
