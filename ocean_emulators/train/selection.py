"""Which weights are handed on, and when training has come to its end early."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ocean_emulators.config.base import Config
from ocean_emulators.config.bounds import Count, Days
from ocean_emulators.datasets.requirements import DataRequirements
from ocean_emulators.errors import UserError
from ocean_emulators.tensors import load_tensors, save_tensors


class EarlyStopping(Config):
    patience: Count
    """validations without a better one after which training ends"""


class RolloutValidation(Config):
    days: Days
    """length of the rollouts, days; a multiple of the data's time step"""
    starts: Count = 4
    """how many, evenly spread over the validation period"""

    def steps(self, step_days: float, needs: DataRequirements, times: int) -> int:
        """Length in time steps of the data, of which the validation period has so many.

        Raises
        ------
        UserError
            If it is no multiple of them, or the period has no room for so many rollouts.
        """
        steps = round(self.days / step_days)
        if not steps or abs(steps * step_days - self.days) > 1e-6:
            raise UserError(
                f"train.rollout_validation.days: found {self.days:g}: expected a multiple of the data's time step, "
                f"{step_days:g} days"
            )
        possible = len(needs.forecast_starts(range(times), steps))
        if possible < self.starts:
            raise UserError(
                f"train.rollout_validation: the validation period has room for {possible} start(s) of rollouts of "
                f"{self.days:g} days, not {self.starts}; shorten them, or ask for fewer"
            )
        return steps


@dataclass
class Best:
    """The best validation so far, by one of its numbers, which is lowest there; and the weights that it was of."""

    by: str
    file: Path
    """for these weights"""
    value: float = math.inf
    step: int = 0
    """after which it was made"""
    waited: int = 0
    """validations since"""

    def see(self, step: int, logs: dict[str, float]) -> bool:
        """Whether a validation, after that many steps, is the best so far; a number that is not finite never is."""
        better = logs[self.by] < self.value
        if better:
            self.value, self.step, self.waited = logs[self.by], step, 0
        else:
            self.waited += 1
        return better

    def keep(self, raw: dict[str, Tensor], averaged: dict[str, Tensor]) -> None:
        """Put the weights of the best validation on the disk."""
        save_tensors({"model": raw, "averaged_model": averaged}, self.file)

    def kept(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """These weights, raw and averaged."""
        content = load_tensors(self.file)
        return content["model"], content["averaged_model"]

    def state_dict(self) -> dict[str, Any]:
        """What the rest of the training depends on."""
        return {"value": self.value, "step": self.step, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.value, self.step, self.waited = state["value"], state["step"], state["waited"]
