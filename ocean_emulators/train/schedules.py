"""Learning rates over a training."""

import math
from typing import Literal

from pydantic import Field

from ocean_emulators.config.base import Config
from ocean_emulators.config.bounds import Count, Share

ScheduleType = Literal["cosine", "constant", "plateau"]


class ScheduleConfig(Config):
    type: ScheduleType = "cosine"
    """after the warm-up: half a cosine down to the final rate, the highest rate throughout, or a rate that is lowered each
    time the validation loss has stopped falling"""
    every: Literal["step", "epoch"] = "step"
    """when the rate changes: at each optimiser step, or at the beginning of each epoch (as published)"""
    warmup_fraction: Share = 0.05
    """share of the training over which the rate rises to the highest, in a line"""
    warmup_start: Share = 0.0
    """what it rises from, as a share of the highest; 0 begins one part of the way up, since a rate of 0 learns nothing"""
    tail_fraction: Share = 0.0
    """share of the training, at its end, over which a cosine has reached the final rate"""
    final: float = Field(0.0, ge=0, le=1)
    """what a cosine falls to, as a share of the highest"""
    plateau_factor: float = Field(0.5, gt=0, lt=1)
    """what a plateau multiplies the rate by"""
    plateau_patience: Count = 5
    """validations without a lower loss that make a plateau"""

    def share(self, place: int, length: int) -> float:
        """Share of the highest rate at a step (or epoch) of a training of so many, but for plateaus."""
        # 0.29 · 100 is 28.999…, and means 29.
        warmup, tail = (int(fraction * length + 1e-6) for fraction in (self.warmup_fraction, self.tail_fraction))
        if place < warmup:
            way = place / warmup if self.warmup_start else (place + 1) / (warmup + 1)
            return self.warmup_start + (1 - self.warmup_start) * way
        if self.type != "cosine":
            return 1.0
        way = min(1.0, (place - warmup) / max(length - warmup - tail, 1))
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * way))


class Plateaus:
    """Lowers the rate where the validation loss has stopped falling."""

    def __init__(self, config: ScheduleConfig) -> None:
        self.config, self.factor, self.best, self.waited = config, 1.0, math.inf, 0

    def see(self, loss: float) -> None:
        """The loss of one more validation."""
        if self.config.type != "plateau":
            return
        if loss < self.best:
            self.best, self.waited = loss, 0
        else:
            self.waited += 1
        if self.waited >= self.config.plateau_patience:
            self.factor, self.waited = self.factor * self.config.plateau_factor, 0

    def state_dict(self) -> dict[str, float]:
        """What the rest of the training depends on."""
        return {"factor": self.factor, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """The inverse of `state_dict`."""
        self.factor, self.best, self.waited = state["factor"], state["best"], int(state["waited"])
