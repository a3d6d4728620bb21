"""The decoder that is asked for each cell by its position: windows of the latent grid are read by a Perceiver IO."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ocean_emulators.config.bounds import Count, Layers, Width
from ocean_emulators.errors import UserError
from ocean_emulators.models.fomo.chunks import in_chunks
from ocean_emulators.models.fomo.embeddings import PatchEncoding
from ocean_emulators.models.fomo.patches import PatchedGrid, PerGrid, join_windows, split_windows
from ocean_emulators.models.fomo.perceiver import LatentsConfig, PerceiverIO
from ocean_emulators.models.layers.blocks import wrap


class PerceiverDecoderConfig(LatentsConfig):
    type: Literal["perceiver"] = "perceiver"
    """kind of decoder"""
    depth: Layers = 2
    """how often the latents go through their block of self-attention, which is the same each time"""
    query_width: Width = 64
    """channels of a query, and of what is read out for it"""
    window: Count | None = 12
    """side of a window, patches: cells are read out from the patches of their window; null is one window of all patches"""
    context: int = Field(1, ge=0, le=1_000_000)
    """width of the ring of patches around a window that are read with it, patches"""

    def build(self, width: int, out_channels: int, grids: Sequence[PatchedGrid]) -> "PerceiverDecoder":
        """The decoder of a latent grid of `width` channels, with fresh weights.

        Raises
        ------
        UserError
            If windows don't divide the latent grid, or their ring is wider than it.
        """
        shape = grids[0].latent_shape
        if self.window is not None and (shape[0] % self.window or shape[1] % self.window):
            fitting = [n for n in range(1, min(shape) + 1) if shape[0] % n == 0 and shape[1] % n == 0]
            raise UserError(
                f"model.decoder.window: found {self.window}, which does not divide the latent grid of {shape[0]} × "
                f"{shape[1]} patches; these do: {', '.join(map(str, fitting))}, or null for one window of all"
            )
        if self.window is not None and self.context > shape[1]:
            raise UserError(
                f"model.decoder.context: found {self.context}, more than the {shape[1]} patches around the globe; "
                "give fewer, or let one window hold all patches (window: null)"
            )
        return PerceiverDecoder(self, width, out_channels, grids)


class PerceiverDecoder(nn.Module):
    """Patches of a window and of the ring around it are read into latents; its cells, as queries, are read out of these.

    The ring follows around the globe; beyond the grid's first and last latitude it is zero.
    """

    def __init__(
        self, config: PerceiverDecoderConfig, width: int, out_channels: int, grids: Sequence[PatchedGrid]
    ) -> None:
        super().__init__()
        self.patched = {grid.name: grid for grid in grids}
        self.context = 0 if config.window is None else config.context
        self.window = grids[0].latent_shape if config.window is None else (config.window, config.window)
        self.encoding = PatchEncoding(width, grids)
        self.query = nn.Linear(3, config.query_width)
        self.perceiver = PerceiverIO(width, config.query_width, config.depth, config)
        self.head = nn.Linear(config.query_width, out_channels)
        self.positions = PerGrid(
            {g.name: split_windows(g.ocean.unit_sphere()[None], self._cells_of_window(g)) for g in grids}
        )
        # The widest layers: of the latents; of each cell, its feed-forward or what is read out.
        self.values = config.widest
        self.values_per_cell = max(8 * config.query_width, out_channels)

    def forward(self, latent: Tensor, x: Tensor, grid: str) -> Tensor:
        """Latent [batch, width, latent lat, latent lon], the network's input x (not used) -> [batch, out, lat, lon]"""
        patched, positions = self.patched[grid], self.positions(grid)
        patches = self.encoding(latent.permute(0, 2, 3, 1), grid).permute(0, 3, 1, 2)
        values = max(self.values, positions.shape[1] * self.values_per_cell)
        positions = positions.repeat(len(latent), 1, 1)
        cells = in_chunks(self._read, self._windows(patches), positions, values=values)
        return join_windows(cells, self._cells_of_window(patched), patched.ocean.grid_shape)

    def _windows(self, patches: Tensor) -> Tensor:
        """[batch, width, latent lat, latent lon] -> [batch · window, patch, width], windows row by row, with their rings"""
        ring = self.context
        if ring == 0:
            return split_windows(patches, self.window)
        patches = F.pad(wrap(patches, ring), (0, 0, ring, ring))
        for axis, size in zip((2, 3), self.window, strict=True):
            patches = patches.unfold(axis, size + 2 * ring, size)  # batch, width, row, column, lat, lon
        return patches.permute(0, 2, 3, 4, 5, 1).flatten(3, 4).flatten(0, 2)

    def _read(self, patches: Tensor, positions: Tensor) -> Tensor:
        """[window, patch, width], positions [window, cell, 3] -> [window, cell, out]"""
        read = self.perceiver(patches, self.query(positions))
        with torch.autocast(read.device.type, enabled=False):
            out: Tensor = self.head(read.float())
        return out

    def _cells_of_window(self, grid: PatchedGrid) -> tuple[int, int]:
        return self.window[0] * grid.patch[0], self.window[1] * grid.patch[1]
