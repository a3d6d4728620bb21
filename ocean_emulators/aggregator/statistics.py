"""Statistics: what is summed over cells of predictions and truth. An entry each; see `metrics.py` for what is made of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ocean_emulators.registry import Registry


@dataclass(frozen=True)
class Sample:
    """Rows [start, prognostic cell] at one step, physical units, float64."""

    predicted: Tensor
    truth: Tensor
    climatology: Tensor

    @cached_property
    def error(self) -> Tensor:
        """Predicted - true."""
        return self.predicted - self.truth

    @cached_property
    def predicted_anomaly(self) -> Tensor:
        """Departure of the prediction from the climatology."""
        return self.predicted - self.climatology

    @cached_property
    def true_anomaly(self) -> Tensor:
        """Departure of the truth from the climatology."""
        return self.truth - self.climatology


STATISTICS: Registry[Callable[[Sample], Tensor]] = Registry("statistic")
"""By name, the value of each cell, [start, prognostic cell]; means of these over area are what metrics are made of."""

STATISTICS.register("error")(lambda s: s.error)
STATISTICS.register("squared_error")(lambda s: s.error**2)
STATISTICS.register("predicted")(lambda s: s.predicted)
STATISTICS.register("truth")(lambda s: s.truth)
STATISTICS.register("squared_predicted_anomaly")(lambda s: s.predicted_anomaly**2)
STATISTICS.register("squared_true_anomaly")(lambda s: s.true_anomaly**2)
STATISTICS.register("anomaly_product")(lambda s: s.predicted_anomaly * s.true_anomaly)
