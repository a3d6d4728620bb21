"""Losses over an epoch of training, and lately."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ocean_emulators.aggregator.losses import LossMeans
from ocean_emulators.distributed import ALONE, Ranks
from ocean_emulators.ocean.fields import Channel
from ocean_emulators.stepper import BatchOutput


class TrainAggregator:
    """Mean losses over the batches of an epoch, see `LossMeans`, and of those since they were last asked for."""

    def __init__(
        self, channels: Sequence[Channel], grids: Sequence[str], device: torch.device, ranks: Ranks = ALONE
    ) -> None:
        self.losses = LossMeans("train", channels, grids, device, ranks)
        self.lately = LossMeans("train/recent", channels, grids, device, ranks)

    @property
    def log_names(self) -> list[str]:
        """See `LossMeans`."""
        return self.losses.log_names

    def reset(self) -> None:
        """Begin an epoch."""
        self.losses.sums.reset()

    def record_batch(self, output: BatchOutput) -> None:
        """Add a batch, on this rank."""
        self.losses.record_batch(output)
        self.lately.record_batch(output)

    def get_logs(self) -> dict[str, float]:
        """The means over the epoch so far; all ranks must ask for them together."""
        return self.losses.get_logs()

    def recent(self) -> dict[str, float]:
        """The means since this was last asked for, on grids that had windows, as `train/recent/mean/loss` and so on.

        All ranks must ask for them together.
        """
        logs = self.lately.get_logs()
        self.lately.sums.reset()
        return {name: value for name, value in logs.items() if not math.isnan(value)}

    def state_dict(self) -> dict[str, Any]:
        """All that later logs depend on; that of this rank, which on resumption must get its own back."""
        return {"losses": self.losses.sums.state_dict(), "lately": self.lately.sums.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`.

        Raises
        ------
        ValueError
            If it is of other channels or grids.
        """
        self.losses.sums.load_state_dict(state["losses"])
        self.lately.sums.load_state_dict(state["lately"])
