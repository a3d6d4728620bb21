"""Anomaly persistence: the departure from the climatology stays as it is."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from ocean_emulators.forecasting.base import BASELINES, Past


@BASELINES.register("anomaly_persistence")
class AnomalyPersistence:
    """x(t + l) = climatology(t + l) + a(t), where a is the anomaly, x - climatology."""

    def __init__(self, past: Past) -> None:
        self.past = past

    def forecast(self, starts: Sequence[int], steps: int) -> Iterator[Tensor]:
        """See `Forecaster`."""
        anomaly = self.past.anomalies(starts)
        for step in range(1, steps + 1):
            yield self.past.climatology.at([start + step for start in starts]) + anomaly
