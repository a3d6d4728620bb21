"""Which weights are handed on, and when training has come to its end early."""

import math
from dataclasses import dataclass, field
from typing import Any

from ocean_emulators.config.base import Config
from ocean_emulators.config.bounds import Count, Days


class EarlyStopping(Config):
    patience: Count
    """validations without a better one after which training ends"""


class RolloutValidation(Config):
    days: Days
    """length of the rollouts, days; a multiple of the data's time step"""
    starts: Count = 4
    """how many, evenly spread over the validation period"""


@dataclass
class Best:
    """The best validation so far, by one of its numbers, which is lowest there."""

    by: str
    value: float = math.inf
    epoch: int = 0
    waited: int = field(default=0)
    """validations since"""

    def see(self, epoch: int, logs: dict[str, float]) -> bool:
        """Whether a validation, after that many epochs, is the best so far; a number that is not finite never is."""
        better = logs[self.by] < self.value
        if better:
            self.value, self.epoch, self.waited = logs[self.by], epoch, 0
        else:
            self.waited += 1
        return better

    def state_dict(self) -> dict[str, Any]:
        """What the rest of the training depends on."""
        return {"value": self.value, "epoch": self.epoch, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.value, self.epoch, self.waited = state["value"], state["epoch"], state["waited"]
