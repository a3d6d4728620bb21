"""The encoder and decoder of FOMO that keep what a grid resolves.

The encoder looks at a grid at its own resolution, and takes means over wet area to the latent grid, each channel with its own
mask: what is conserved on one grid is conserved on the other. The decoder interpolates the latent grid, and sees the input
once more at its own resolution, so that nothing fine has to go through the latent grid. There are no windows, so no seams.

A convolution's cells are larger on a coarser grid: its results are scaled by what is learned of the size of cells.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ocean_emulators.config.base import Config
from ocean_emulators.config.bounds import WHOLE, Few, Width
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.fomo.patches import PerGrid
from ocean_emulators.models.fomo.regridding import Axes, interpolation, overlaps
from ocean_emulators.models.layers.activation_checkpointing import Checkpointing, run
from ocean_emulators.models.layers.blocks import ConvNeXtBlock, GlobeConv, Norm


class ScaledBlockConfig(Config):
    """The block that sees a grid at its own resolution."""

    width: Width = 32
    """channels of what is seen at the grid's own resolution"""
    expansion: Few = 1
    """channels inside the block / channels entering it"""
    norm: Norm = "none"
    """normalisation inside the block: batch, instance or none"""


class ConservativeEncoderConfig(ScaledBlockConfig):
    type: Literal["conservative"] = "conservative"
    """kind of encoder"""

    def build(
        self,
        in_channels: int,
        channel_of_mask: Sequence[int | None],
        oceans: Sequence[OceanContext],
        latent: Axes,
        checkpointing: Checkpointing = "none",
    ) -> "ConservativeEncoder":
        """The encoder to a latent grid, with fresh weights; `channel_of_mask` see `ConservativeEncoder`."""
        return ConservativeEncoder(self, in_channels, channel_of_mask, oceans, latent, checkpointing)


class ConservativeEncoder(nn.Module):
    """[batch, in, lat, lon] -> [batch, out_channels, latent lat, latent lon]: a block on the grid, then means."""

    def __init__(
        self,
        config: ConservativeEncoderConfig,
        in_channels: int,
        channel_of_mask: Sequence[int | None],
        oceans: Sequence[OceanContext],
        latent: Axes,
        checkpointing: Checkpointing,
    ) -> None:
        """`channel_of_mask` [in] is the prognostic channel whose mask an input has; None for those of any wet cell."""
        super().__init__()
        self.block = ScaledBlock(config, in_channels, oceans, latent, checkpointing)
        self.out_channels = in_channels + config.width
        shared = {ocean.name: overlaps(Axes.of(ocean), latent) for ocean in oceans}
        self.lat = PerGrid({grid: lat for grid, (lat, _) in shared.items()})
        self.lon = PerGrid({grid: lon for grid, (_, lon) in shared.items()})
        of_seen = [*channel_of_mask, *([None] * config.width)]
        self.wet = PerGrid({ocean.name: _wet(ocean, of_seen) for ocean in oceans})
        self.wet_area = PerGrid({grid: self._sums(self.wet(grid), grid).clamp(min=1e-12) for grid in shared})

    def forward(self, x: Tensor, grid: str) -> Tensor:
        """Means over the wet area of each latent cell; zero where there is none."""
        seen = torch.cat([x, self.block(x, grid)], dim=1)
        with torch.autocast(x.device.type, enabled=False):  # fewer digits would not conserve
            sums = self._sums(seen.float() * self.wet(grid), grid)
        means: Tensor = sums / self.wet_area(grid)
        return means

    def _sums(self, x: Tensor, grid: str) -> Tensor:
        """Sums over the area shared with each latent cell."""
        sums: Tensor = self.lat(grid) @ (x @ self.lon(grid).T)
        return sums


class ResidualDecoderConfig(ScaledBlockConfig):
    type: Literal["residual"] = "residual"
    """kind of decoder"""
    head_kernel: Annotated[Literal[1, 3], WHOLE] = 3
    """size of the last convolution, cells"""

    def build(
        self,
        in_channels: int,
        latent_channels: int,
        out_channels: int,
        oceans: Sequence[OceanContext],
        latent: Axes,
        checkpointing: Checkpointing = "none",
    ) -> "ResidualDecoder":
        """The decoder from a latent grid, with fresh weights."""
        return ResidualDecoder(self, in_channels, latent_channels, out_channels, oceans, latent, checkpointing)


class ResidualDecoder(nn.Module):
    """(latent [batch, latent, latent lat, latent lon], input [batch, in, lat, lon]) -> [batch, out, lat, lon], float32."""

    def __init__(
        self,
        config: ResidualDecoderConfig,
        in_channels: int,
        latent_channels: int,
        out_channels: int,
        oceans: Sequence[OceanContext],
        latent: Axes,
        checkpointing: Checkpointing,
    ) -> None:
        super().__init__()
        weights = {ocean.name: interpolation(latent, Axes.of(ocean)) for ocean in oceans}
        self.lat = PerGrid({grid: lat for grid, (lat, _) in weights.items()})
        self.lon = PerGrid({grid: lon for grid, (_, lon) in weights.items()})
        self.narrow = nn.Conv2d(latent_channels, config.width, kernel_size=1)
        self.block = ScaledBlock(config, config.width + in_channels, oceans, latent, checkpointing)
        self.head = GlobeConv(config.width, out_channels, config.head_kernel)

    def forward(self, latent: Tensor, x: Tensor, grid: str) -> Tensor:
        """What the latent grid says of each cell, beside the input there."""
        coarse = self.narrow(latent)
        with torch.autocast(x.device.type, enabled=False):
            coarse = self.lat(grid) @ (coarse.float() @ self.lon(grid).T)
        fine = self.block(torch.cat([coarse, x], dim=1), grid)
        with torch.autocast(x.device.type, enabled=False):
            out: Tensor = self.head(fine.float())
        return out


class ScaledBlock(nn.Module):
    """A block on any grid: what it puts out is scaled and shifted, by channel, by the logarithm of the size of cells.

    Sizes are counted from those of the latent grid; a fresh block knows none.
    """

    def __init__(
        self,
        config: ScaledBlockConfig,
        in_channels: int,
        oceans: Sequence[OceanContext],
        latent: Axes,
        checkpointing: Checkpointing,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.block = ConvNeXtBlock(in_channels, config.width, dilation=1, expansion=config.expansion, norm=config.norm)
        self.size = PerGrid({ocean.name: np.log(Axes.of(ocean).cell / latent.cell) for ocean in oceans})
        self.modulation = nn.Linear(2, 2 * config.width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, grid: str) -> Tensor:
        """[batch, in, lat, lon] -> [batch, out, lat, lon]"""
        scale, shift = self.modulation(self.size(grid))[:, None, None].chunk(2)
        out: Tensor = run(self.block, x, self.checkpointing) * (1 + scale) + shift
        return out


def _wet(ocean: OceanContext, channels: Sequence[int | None]) -> Tensor:
    """Where inputs are wet, [input, lat, lon]; None is where any channel is."""
    anywhere = ocean.mask.any(0)
    return torch.stack([anywhere if channel is None else ocean.mask[channel] for channel in channels])
