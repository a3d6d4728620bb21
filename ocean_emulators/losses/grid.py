"""What a loss must know of a grid, and of the channels on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ocean_emulators.models.base import OceanContext
from ocean_emulators.ocean.fields import Channel
from ocean_emulators.ocean.grid import Grid


@dataclass(frozen=True)
class LossGrid:
    """One of the grids that are trained on, with the predicted channels."""

    ocean: OceanContext
    fields: tuple[str, ...]
    """[channel], names"""
    thickness: Tensor
    """[channel], m, of the channel's level; 1 for fields without levels"""
    area: Tensor
    """[lat, lon], m2, of whole cells"""
    wet_area: Tensor
    """[channel, lat, lon], m2, of the ocean in the wet ones"""

    @classmethod
    def of(cls, ocean: OceanContext, grid: Grid, channels: Sequence[Channel]) -> Self:
        """Of a grid and the predicted channels on it."""
        thickness = [1.0 if channel.level is None else float(grid.thickness[channel.level]) for channel in channels]
        wet_area = torch.as_tensor(np.stack([grid.wet_area(channel.mask_level) for channel in channels]))
        return cls(
            ocean,
            tuple(channel.field.name for channel in channels),
            torch.tensor(thickness),
            torch.as_tensor(grid.area),
            wet_area * ocean.mask.cpu(),
        )
