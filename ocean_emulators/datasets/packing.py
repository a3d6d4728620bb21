"""The one place where named fields, packed rows and stacked channels are turned into each other."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ocean_emulators.datasets.statistics import Statistics
from ocean_emulators.ocean.fields import Channel


class Packing(nn.Module):
    """Packed rows of physical values [..., cell] ⇄ normalised channels [..., channel, lat, lon], land zero.

    A normalised value is (x - mean) / std of its channel. Scattering is a gather: each dense cell picks its packed
    value, or the zero that stands before the row.
    """

    mask: Tensor
    """[channel, lat, lon], bool"""
    position: Tensor
    """[channel × lat × lon], place in a row, from 1; 0 on land"""
    wet_cell: Tensor
    """[prognostic cell], place among the dense cells"""
    channel_of_cell: Tensor
    """[cell]"""
    mean: Tensor
    """[cell], of its channel"""
    std: Tensor
    """[cell], of its channel"""

    def __init__(
        self,
        prognostic: Sequence[Channel],
        forcing: Sequence[Channel],
        mask: np.ndarray,
        statistics: Statistics,
    ) -> None:
        """`mask` is [channel, lat, lon], prognostic channels first, as are the statistics."""
        super().__init__()
        assert mask.shape[0] == len(prognostic) + len(forcing) == len(statistics.mean)
        self.prognostic, self.forcing = tuple(prognostic), tuple(forcing)
        counts = torch.as_tensor(mask.sum((1, 2)))
        self.n_prognostic_cells = int(counts[: len(prognostic)].sum())
        wet = torch.as_tensor(mask.reshape(-1))
        position = torch.where(wet, torch.cumsum(wet, 0), 0)  # 0 is the zero before the row
        channel_of_cell = torch.repeat_interleave(torch.arange(len(counts)), counts)
        self.register("mask", torch.as_tensor(mask))
        self.register("position", position)
        self.register("wet_cell", wet.nonzero().flatten()[: self.n_prognostic_cells])
        self.register("channel_of_cell", channel_of_cell)
        self.register("mean", torch.as_tensor(statistics.mean)[channel_of_cell].float())
        self.register("std", torch.as_tensor(statistics.std)[channel_of_cell].float())

    def register(self, name: str, tensor: Tensor) -> None:
        """Buffers move with `.to(device)` and stay out of checkpoints: they follow from store and statistics."""
        self.register_buffer(name, tensor, persistent=False)

    @property
    def prognostic_mask(self) -> Tensor:
        """[prognostic channel, lat, lon], bool"""
        return self.mask[: len(self.prognostic)]

    def unpack(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Whole rows [..., cell] to prognostic and forcing channels, [..., channel, lat, lon] each, normalised."""
        dense = self._scatter((rows - self.mean) / self.std, self.position)
        dense = dense.unflatten(-1, self.mask.shape)
        n = len(self.prognostic)
        return dense[..., :n, :, :], dense[..., n:, :, :]

    def unpack_forcing(self, rows: Tensor) -> Tensor:
        """The forcing channels alone, [..., channel, lat, lon], normalised."""
        cells = slice(self.n_prognostic_cells, None)
        n = len(self.prognostic)
        position = self.position[n * self.mask[0].numel() :]
        position = torch.where(position > 0, position - self.n_prognostic_cells, 0)
        dense = self._scatter((rows[..., cells] - self.mean[cells]) / self.std[cells], position)
        return torch.unflatten(dense, -1, self.mask[n:].shape)

    def pack(self, channels: Tensor) -> Tensor:
        """Normalised prognostic channels [..., channel, lat, lon] to physical rows [..., prognostic cell]."""
        cells = slice(0, self.n_prognostic_cells)
        return channels.flatten(-3)[..., self.wet_cell] * self.std[cells] + self.mean[cells]

    def prognostic_rows(self, rows: Tensor) -> Tensor:
        """The prognostic cells of whole rows, [..., prognostic cell]."""
        return rows[..., : self.n_prognostic_cells]

    def to_fields(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Physical prognostic rows [..., prognostic cell] to {channel name: [..., lat, lon]}, NaN on land."""
        mask = self.prognostic_mask.cpu().numpy()
        ends = np.cumsum(mask.sum((1, 2)))
        fields = {}
        for channel, wet, end in zip(self.prognostic, mask, ends, strict=True):
            dense = np.full((*rows.shape[:-1], *wet.shape), np.nan, rows.dtype)
            dense[..., wet] = rows[..., end - wet.sum() : end]
            fields[channel.name] = dense
        return fields

    @staticmethod
    def _scatter(rows: Tensor, position: Tensor) -> Tensor:
        # As a matrix: `index_select` on a third dimension takes a path that is fifty times slower.
        padded = nn.functional.pad(rows.reshape(-1, rows.shape[-1]), (1, 0))
        return torch.unflatten(padded.index_select(1, position), 0, rows.shape[:-1])
