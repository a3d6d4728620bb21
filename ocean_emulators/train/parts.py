"""What a Trainer is given beside the objects that do the work, and how far it has come."""

from collections.abc import Callable
from dataclasses import dataclass, field

START_LOSS, FIRST_STEPS = "start/loss", 20
"""How the loss of the first optimiser steps is reported, and of how many."""


def _nobody(number: int, logs: dict[str, float]) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Reports:
    """Whom a training tells how it goes."""

    epoch: Callable[[int, dict[str, float]], None] = _nobody
    """after each epoch, the first is 1"""
    progress: Callable[[int, dict[str, float]], None] = _nobody
    """now and then, after an optimiser step of that number"""


QUIET = Reports()


@dataclass(frozen=True)
class Cadence:
    """How often a training does what changes no result."""

    save_s: float = 600.0
    """seconds between states that are saved, beside that at the end of each epoch"""
    save_steps: int | None = None
    """the same in optimiser steps"""
    log_steps: int | None = None
    """optimiser steps between reports of the losses of each channel"""


CADENCE = Cadence()


@dataclass
class Place:
    """How far a training has come."""

    epoch: int = 0
    """epochs that are done"""
    position: int = 0
    """batches of the next one that are done"""
    step: int = 0
    """batches that are done, of all epochs"""
    skipped: int = 0
    """of which so many were left out, because they were not finite"""
    validated: int = 0
    """`step` when validation was made last"""
    seconds: float = 0.0
    """spent on the next epoch so far"""
    history: list[dict[str, float]] = field(default_factory=list)
    """what is known of each epoch that is done"""
