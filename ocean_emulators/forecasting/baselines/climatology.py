"""Climatology: the mean of the training period at the time of the year."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from ocean_emulators.forecasting.base import BASELINES, Past


@BASELINES.register("climatology")
class DayOfYearClimatology:
    """x(t + l) = climatology(t + l)."""

    def __init__(self, past: Past) -> None:
        self.past = past

    def forecast(self, starts: Sequence[int], steps: int) -> Iterator[Tensor]:
        """See `Forecaster`."""
        for step in range(1, steps + 1):
            yield self.past.climatology.at([start + step for start in starts])
