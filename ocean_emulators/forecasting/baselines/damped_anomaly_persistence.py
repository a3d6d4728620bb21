"""Damped anomaly persistence: the departure from the climatology fades as it did in the training period."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ocean_emulators.forecasting.base import BASELINES, Past


@BASELINES.register("damped_anomaly_persistence")
class DampedAnomalyPersistence:
    """x(t + l) = climatology(t + l) + r(l) a(t), where a is the anomaly, and r is learned for each cell."""

    def __init__(self, past: Past) -> None:
        self.past = past
        self.damping = torch.zeros(0, past.climatology.n_cells)
        """[lag, prognostic cell], lag from 1; learned up to the longest lead that was asked for"""

    def forecast(self, starts: Sequence[int], steps: int) -> Iterator[Tensor]:
        """See `Forecaster`."""
        if len(self.damping) < steps:
            self.damping = lag_regression(self.past, steps)
        anomaly = self.past.anomalies(starts)
        for step in range(1, steps + 1):
            yield self.past.climatology.at([start + step for start in starts]) + self.damping[step - 1] * anomaly


def lag_regression(past: Past, lags: int) -> Tensor:
    """Regression of the anomaly `l` steps later on the anomaly, for each cell: [lag, prognostic cell], lag from 1.

    r(l) = Σ a(t) a(t + l) / Σ a(t)², over the pairs of the training period. Reads the period once.
    """
    recent: list[Tensor] = []  # the last anomalies, newest first
    product = torch.zeros(lags, past.climatology.n_cells)
    square = torch.zeros_like(product)
    for time in past.train:
        anomaly = past.anomalies([time])[0]
        for lag, earlier in enumerate(recent):
            product[lag] += earlier * anomaly
            square[lag] += earlier**2
        recent = [anomaly, *recent][:lags]
    return torch.where(square > 0, product / square.clamp(min=torch.finfo().tiny), 0.0)
