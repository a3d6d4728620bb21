"""What a model is worth on the validation period, with the weights that it has when it is asked."""

from collections.abc import Callable
from itertools import zip_longest

import xarray as xr

from ocean_emulators.aggregator.validate import ValidateAggregator
from ocean_emulators.datasets.loading.loader import Loader
from ocean_emulators.distributed import ALONE, Ranks
from ocean_emulators.stepper import Stepper
from ocean_emulators.train.rollout_validation import RolloutScores


class Validation:
    """Errors over all windows of the period, and of free rollouts where they are wanted; all ranks take part in each call.

    Parameters
    ----------
    batches: the most that any rank's loader has: all ask as often whether to stop
    model_steps: length of the rollouts of windows
    """

    def __init__(
        self,
        stepper: Stepper,
        loader: Loader,
        batches: int,
        model_steps: int,
        aggregator: ValidateAggregator,
        rollouts: RolloutScores | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.stepper, self.loader, self.batches, self.model_steps = stepper, loader, batches, model_steps
        self.aggregator, self.rollouts, self.ranks = aggregator, rollouts, ranks

    @property
    def log_names(self) -> list[str]:
        """Names of what `logs` gives."""
        return [*self.aggregator.log_names, *(self.rollouts.log_names if self.rollouts else [])]

    def logs(self, stop: Callable[[], bool]) -> dict[str, float] | None:
        """All numbers; None where any rank was asked to stop in between."""
        if not self._look(stop):
            return None
        return self.aggregator.get_logs() | (self.rollouts() if self.rollouts else {})

    def maps(self) -> dict[str, xr.Dataset]:
        """Maps by the name of the grid, see `ValidateAggregator.get_maps`."""
        self._look(lambda: False)
        return self.aggregator.get_maps()

    def _look(self, stop: Callable[[], bool]) -> bool:
        self.aggregator.reset()
        for batch, _ in zip_longest(self.loader, range(self.batches)):
            if batch is not None:
                self.aggregator.record_batch(self.stepper.validate_batch(batch, self.model_steps))
            if any(self.ranks.any(stop())):
                return False
        return True
