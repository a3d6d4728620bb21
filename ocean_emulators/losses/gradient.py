"""Errors of gradients: what is too smooth, or wavy, costs more than its values alone say."""

from typing import Literal

import torch
from torch import Tensor, nn

from ocean_emulators.losses.masked import POWER


class GradientError(nn.Module):
    """Mean error of each channel's differences from cell to cell, to the north and to the east, as published for Samudra.

    (m(∂y e) + m(∂x e)) / 2 with the error e, 0 on land, forward differences ∂, and the mean m of squares or absolute values
    over all cells, land among them; east is periodic, the northernmost row has no difference to the north. There are
    differences across coasts, too, where the error ends (m2lines/Samudra, `utils/loss.py`).

    Parameters
    ----------
    metric: squared or absolute error
    unit: [channel], what errors are divided by
    mask: [channel, lat, lon], where there is ocean
    weight: [channel], a factor
    """

    mask: Tensor
    weight: Tensor

    def __init__(self, metric: Literal["mse", "mae"], unit: Tensor, mask: Tensor, weight: Tensor) -> None:
        super().__init__()
        self.metric = metric
        factor = weight / unit.double() ** POWER[metric]
        self.register_buffer("weight", (factor / (2 * mask[0].numel())).float(), persistent=False)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, predicted: Tensor, truth: Tensor) -> Tensor:
        """[..., channel, lat, lon] twice -> [..., channel]"""
        error = torch.where(self.mask, predicted - truth, 0.0)
        return self.weight * (self._sum(error.diff(dim=-2)) + self._sum(error.roll(-1, -1) - error))

    def _sum(self, difference: Tensor) -> Tensor:
        return (difference.square() if self.metric == "mse" else difference.abs()).sum((-2, -1))
