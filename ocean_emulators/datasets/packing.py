"""The one place where named fields, packed rows and stacked channels are turned into each other."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from ocean_emulators.datasets.scaling import Scaling
from ocean_emulators.datasets.statistics import Statistics
from ocean_emulators.datasets.store import PackedStore
from ocean_emulators.ocean.fields import Channel

_CELLS_AT_ONCE = 2**18


class Packing(nn.Module):
    """Rows of a store [time, cell] ⇄ normalised channels [time, channel, lat, lon], land zero.

    A normalised value is (x - mean) / std of its channel. Rows come as they are stored, or normalised already.
    """

    mask: Tensor
    """[channel, lat, lon], bool; prognostic channels first"""
    wet_cell: Tensor
    """[prognostic cell], place among the dense cells"""
    channel_of_cell: Tensor
    """[cell]"""
    mean: Tensor
    """[cell], of its channel"""
    std: Tensor
    """[cell], of its channel"""
    scale: Tensor
    """[cell], of its channel: normalised = scale · stored + offset"""
    offset: Tensor
    """[cell], of its channel"""

    def __init__(
        self,
        prognostic: Sequence[Channel],
        forcing: Sequence[Channel],
        mask: np.ndarray,
        statistics: Statistics,
        scaling: Scaling | None = None,
    ) -> None:
        """`mask` is [channel, lat, lon], prognostic channels first, as are the statistics; `scaling` of stored values."""
        super().__init__()
        assert mask.shape[0] == len(prognostic) + len(forcing) == len(statistics.mean)
        self.prognostic, self.forcing = tuple(prognostic), tuple(forcing)
        offset, scale = (scaling.offset, scaling.scale) if scaling else (0.0, 1.0)
        counts = torch.as_tensor(mask.sum((1, 2)))
        self.bounds = [0, *counts.cumsum(0).tolist()]  # of the channels' cells
        self.n_prognostic_cells = self.bounds[len(self.prognostic)]
        channel_of_cell = torch.repeat_interleave(torch.arange(len(counts)), counts)

        def of_cells(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, dtype=torch.float32)[channel_of_cell]

        # Buffers move with `.to(device)`; they follow from store and statistics, and stay out of checkpoints.
        for name, tensor in {
            "mask": torch.as_tensor(mask),
            "wet_cell": torch.as_tensor(mask).flatten().nonzero().flatten()[: self.n_prognostic_cells],
            "channel_of_cell": channel_of_cell,
            "mean": of_cells(statistics.mean),
            "std": of_cells(statistics.std),
            "scale": of_cells(scale / statistics.std),
            "offset": of_cells((offset - statistics.mean) / statistics.std),
        }.items():
            self.register_buffer(name, tensor, persistent=False)
        self._position: Tensor | None = None

    @classmethod
    def of(cls, store: PackedStore, statistics: Statistics) -> "Packing":
        """Of a store."""
        return cls(store.prognostic, store.forcing, store.mask, statistics, store.scaling)

    @property
    def device(self) -> torch.device:
        """Where dense fields are made."""
        return self.mask.device

    @property
    def prognostic_mask(self) -> Tensor:
        """[prognostic channel, lat, lon], bool"""
        return self.mask[: len(self.prognostic)]

    @property
    def prognostic_channels(self) -> slice:
        """Which channels are prognostic."""
        return slice(0, len(self.prognostic))

    @property
    def forcing_channels(self) -> slice:
        """Which channels are forcing."""
        return slice(len(self.prognostic), len(self.prognostic) + len(self.forcing))

    def normalise(self, stored: Tensor, out: Tensor | None = None) -> Tensor:
        """Stored rows [..., cell] to normalised ones, float32."""
        return torch.addcmul(self.offset, stored.float(), self.scale, out=out)

    def physical(self, normalised: Tensor) -> Tensor:
        """Normalised rows [..., cell], or their prognostic part, to physical ones."""
        n = normalised.shape[-1]
        return torch.addcmul(self.mean[:n], normalised, self.std[:n])

    def unpack(
        self, rows: Tensor, normalised: bool = False, channels: slice = slice(None), out: Tensor | None = None
    ) -> Tensor:
        """Rows [time, cell] of a store to normalised channels [time, channel, lat, lon].

        Parameters
        ----------
        normalised: whether the rows are normalised already
        channels: which channels to make
        out: where to put them; on land it must hold zeros
        """
        if out is None:
            out = torch.zeros(len(rows), *self.mask[channels].shape, device=self.device)
        move = self._put if self.device.type == "cpu" else self._gather
        return move(rows, normalised, channels, out)

    def _gather(self, rows: Tensor, normalised: bool, channels: slice, out: Tensor) -> Tensor:
        """Each dense cell picks its value, or the zero that is put before the row."""
        values = nn.functional.pad(rows if normalised else self.normalise(rows), (1, 0))
        out.copy_(values.index_select(1, self._positions()[channels].flatten()).view(out.shape))
        return out

    def _put(self, rows: Tensor, normalised: bool, channels: slice, out: Tensor) -> Tensor:
        """Put rows into place, a few channels at a time, of which mask and values stay in the processor's cache.

        NumPy's assignment through a boolean mask copies runs of cells, several times faster than torch gathers them.
        """
        first, last, _ = channels.indices(len(self.mask))
        at_once = max(1, _CELLS_AT_ONCE // self.mask[0].numel())
        for start in range(first, last, at_once):
            group = slice(start, min(start + at_once, last))
            cells = slice(self.bounds[group.start], self.bounds[group.stop])
            wet, target = self.mask[group].flatten().numpy(), out[:, group.start - first : group.stop - first]
            scale, offset, scratch = self.scale[cells], self.offset[cells], torch.empty(cells.stop - cells.start)
            for row, dense in zip(rows[:, cells], target, strict=True):
                values = row
                if not normalised:
                    exact = row if row.dtype == torch.float32 else scratch.copy_(row)
                    values = torch.addcmul(offset, exact, scale, out=scratch)
                dense.view(-1).numpy()[wet] = values.numpy()
        return out

    def _positions(self) -> Tensor:
        """Place of each dense cell in a row, from 1; 0, the zero before the row, on land. [channel, lat, lon]"""
        if self._position is None or self._position.device != self.device:
            wet = self.mask.flatten()
            self._position = torch.where(wet, torch.cumsum(wet, 0), 0).int().view(self.mask.shape)
        return self._position

    def pack(self, channels: Tensor) -> Tensor:
        """Normalised prognostic channels [..., channel, lat, lon] to physical rows [..., prognostic cell]."""
        return self.physical(channels.flatten(-3)[..., self.wet_cell])

    def to_fields(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Physical prognostic rows [..., prognostic cell] to {channel name: [..., lat, lon]}, NaN on land."""
        mask = self.prognostic_mask.cpu().numpy()
        fields = {}
        for channel, wet, (first, last) in zip(self.prognostic, mask, pairwise(self.bounds), strict=False):
            dense = np.full((*rows.shape[:-1], *wet.shape), np.nan, rows.dtype)
            dense[..., wet] = rows[..., first:last]
            fields[channel.name] = dense
        return fields
