"""The encoder that reads each patch by a Perceiver: the patch's cells are its tokens."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ocean_emulators.config.bounds import Few, Layers, Width
from ocean_emulators.models.fomo.chunks import in_chunks
from ocean_emulators.models.fomo.embeddings import PatchEncoding, cell_features
from ocean_emulators.models.fomo.patches import PatchedGrid, PerGrid
from ocean_emulators.models.fomo.perceiver import LatentsConfig, Perceiver


class PerceiverEncoderConfig(LatentsConfig):
    type: Literal["perceiver"] = "perceiver"
    """kind of encoder"""
    width: Annotated[Width, Field(ge=4, multiple_of=4)] = 128
    """channels of the latent grid that the processor is given, a multiple of 4"""
    depth: Layers = 2
    """how often the cells of a patch are read"""
    frequency_bands: Few = 4
    """frequencies by which a cell knows its place in the patch"""
    max_frequency: float = Field(20.0, ge=2, le=10_000)
    """twice the highest of them, in periods per half patch: the cells along the longest side of a patch on the finest grid"""

    def build(self, in_channels: int, grids: Sequence[PatchedGrid]) -> "PerceiverEncoder":
        """The encoder, with fresh weights."""
        return PerceiverEncoder(self, in_channels, grids)


class PerceiverEncoder(nn.Module):
    """Cells, each with its channels and its place in the patch, are read into one vector a patch. Land is read as zeros."""

    def __init__(self, config: PerceiverEncoderConfig, in_channels: int, grids: Sequence[PatchedGrid]) -> None:
        super().__init__()
        self.patched, self.out_channels = {grid.name: grid for grid in grids}, config.width
        places = {g.name: cell_features(g.patch, config.max_frequency, config.frequency_bands) for g in grids}
        self.places = PerGrid(places)
        token_width = in_channels + 2 * (2 * config.frequency_bands + 1)
        self.perceiver = Perceiver(token_width, config.width, config.depth, config)
        self.encoding = PatchEncoding(config.width, grids)
        # The widest layers of one patch: of its latents, or its tokens.
        self.values = config.widest
        self.token_width = token_width

    def forward(self, x: Tensor, grid: str) -> Tensor:
        """[batch, in_channels, lat, lon] -> [batch, width, latent lat, latent lon]"""
        patched, places = self.patched[grid], self.places(grid)

        def read(cells: Tensor) -> Tensor:
            tokens = torch.cat([cells, places.expand(len(cells), -1, -1)], dim=2)
            encoded: Tensor = self.perceiver(tokens)
            return encoded

        values = max(self.values, len(places) * self.token_width)
        patches = in_chunks(read, patched.split(x), values=values).unflatten(0, (len(x), *patched.latent_shape))
        latent: Tensor = self.encoding(patches, grid)
        return latent.permute(0, 3, 1, 2)
