"""Dynamic variance weighting: channels count by the inverse of their recent losses, as published for Samudra."""

import torch
from torch import Tensor, nn

from ocean_emulators.distributed import Ranks

LEAST = 1e-8
"""takes the place of a loss of 0"""


class DynamicScale(nn.Module):
    """A factor on the loss of each channel, 1 at first, which follows the inverse of its loss.

    After each batch, s becomes ((m - 1) s + w) / m with the memory m and w = mean over output states and ranks of 1 / loss;
    w is at most `limit` times the least w of a channel (m2lines/Samudra, `utils/loss.py`).
    """

    scale: Tensor
    """[channel]"""

    def __init__(self, n_channels: int, memory: int, limit: float | None) -> None:
        super().__init__()
        self.memory, self.limit = memory, limit
        self.register_buffer("scale", torch.ones(n_channels))

    def observe(self, losses: Tensor, ranks: Ranks) -> None:
        """Follow the losses of a batch's windows on this rank, [window, model step, output state, channel].

        They are averaged over windows and added up over model steps.
        """
        raw = losses.float().mean(0).sum(0)
        weight = torch.where(raw == 0, LEAST, raw).reciprocal().mean(0)
        weight = ranks.sum(weight) / ranks.world_size
        if self.limit is not None:
            weight = weight.clamp(max=weight.min() * self.limit)
        # Of a batch that is not finite nothing is learnt, here either.
        weight = torch.where(torch.isfinite(weight), weight, self.scale)
        # Not in place: a graph may still hold the scale that it was multiplied by.
        self.scale = ((self.memory - 1) * self.scale + weight) / self.memory
