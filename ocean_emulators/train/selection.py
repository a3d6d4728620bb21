"""Which weights are handed on, and when training has come to its end early."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ocean_emulators.config.base import Config
from ocean_emulators.config.bounds import Count, Days
from ocean_emulators.tensors import load_tensors, save_tensors


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
