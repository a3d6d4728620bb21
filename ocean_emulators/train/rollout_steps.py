"""How long the rollouts are that the loss sees: K model steps, by epoch or by batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from ocean_emulators.datasets.loading.samplers import seed_of
from ocean_emulators.train.config import TrainConfig


@dataclass(frozen=True)
class Phase:
    """Epochs that draw from one set of lengths."""

    steps: tuple[int, ...]
    """model steps"""
    probabilities: tuple[float, ...]
    """of each; they add up to 1"""
    seed: int

    @property
    def longest(self) -> int:
        """What windows must be long enough for."""
        return max(self.steps)

    def model_steps(self, epoch: int, position: int) -> int:
        """The length for a batch: of these numbers and the seed alone, so that it is the same on all ranks."""
        if len(self.steps) == 1:
            return self.steps[0]
        generator = torch.Generator().manual_seed(seed_of(self.seed, epoch, position))
        return self.steps[int(torch.multinomial(torch.tensor(self.probabilities), 1, generator=generator))]


class Phases:
    """The phases of a training, one after the other."""

    def __init__(self, config: TrainConfig) -> None:
        lengths, odds = config.rollout_steps, config.rollout_probabilities
        if odds is not None:
            self.phases: Sequence[Phase] = [Phase(lengths, odds, config.seed)]
            self.ends = [config.epochs]
        else:
            self.phases = [Phase((steps,), (1.0,), config.seed) for steps in lengths]
            epochs = config.rollout_epochs
            self.ends = list(accumulate(epochs)) if epochs else _equal_shares(config.epochs, len(lengths))

    def of(self, epoch: int) -> int:
        """Which phase an epoch belongs to."""
        return next(i for i, end in enumerate(self.ends) if epoch < end)


def _equal_shares(epochs: int, phases: int) -> list[int]:
    """The ends of phases, such that epoch e is in phase e * phases // epochs."""
    return [-(-epochs * (i + 1) // phases) for i in range(phases)]
