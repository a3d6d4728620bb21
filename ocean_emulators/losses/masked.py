"""Training losses: errors over wet cells only, so that a channel counts alike whatever its share of land."""

from typing import Literal

import torch
from pydantic import field_validator
from torch import Tensor, nn

from ocean_emulators.config.base import Config
from ocean_emulators.config.bounds import Factor
from ocean_emulators.models.base import OceanContext


class LossConfig(Config):
    metric: Literal["mse", "mae"] = "mse"
    """squared or absolute error"""
    unit: Literal["state", "change"] = "change"
    """what errors are divided by: each channel's standard deviation, or that of its change over one step"""
    area_weighted: bool = False
    """weigh cells by their wet area instead of equally"""
    field_weights: dict[str, Factor] | None = None
    """factors on the loss of some fields, by field name, such as {thetao: 2.0}; others have 1, and null gives it to all"""

    @field_validator("field_weights")
    @classmethod
    def _none_is_null(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        return (
            value or None
        )  # `dvc exp run -S` can put a mapping in the place of null, but no new key into an empty one

    def build(self, ocean: OceanContext, field_names: list[str], area: Tensor) -> "MaskedLoss":
        """The loss for an ocean; `field_names` [channel] are the fields of its channels.

        `area` is the wet area of their cells, [channel, lat, lon], or [lat, lon] where it is the same for all.
        """
        scale = ocean.change_scale if self.unit == "change" else torch.ones_like(ocean.change_scale)
        weight = torch.tensor([(self.field_weights or {}).get(name, 1.0) for name in field_names])
        cells = ocean.mask.float() * (area.float() if self.area_weighted else 1.0)
        return MaskedLoss(self.metric, scale, weight, cells)


class MaskedLoss(nn.Module):
    """Mean error of each channel over wet cells."""

    scale: Tensor
    cell_weight: Tensor

    def __init__(self, metric: str, scale: Tensor, weight: Tensor, cells: Tensor) -> None:
        """`scale` and `weight` are [channel], `cells` is [channel, lat, lon], zero on land."""
        super().__init__()
        self.metric = metric
        self.register_buffer("scale", scale[:, None, None], persistent=False)
        normalised = weight[:, None, None] * cells / cells.sum((-2, -1), keepdim=True)
        self.register_buffer("cell_weight", normalised, persistent=False)

    def forward(self, predicted: Tensor, truth: Tensor) -> Tensor:
        """[..., channel, lat, lon] normalised -> [channel], mean over the leading dimensions; their mean is the loss."""
        error = (predicted - truth) / self.scale
        error = error.square() if self.metric == "mse" else error.abs()
        return (error * self.cell_weight).sum((-2, -1)).flatten(0, -2).mean(0)
