"""The one place where named fields, packed rows and stacked channels are turned into each other."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.encoding import Scaling
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.ocean.fields import Channel

_CELLS_AT_ONCE = 2**19


@cache
def _threads(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n, thread_name_prefix="unpack")


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
        of_circles = torch.as_tensor(mask.sum(-1)).flatten().cumsum(0)
        self.circles = [0, *of_circles.tolist()]  # bounds of the cells of each channel's circles of latitude
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

    def normalise(self, stored: Tensor) -> Tensor:
        """Stored rows [..., cell], or their prognostic part, to normalised ones, float32."""
        n = stored.shape[-1]
        return stored.float() * self.scale[:n] + self.offset[:n]

    def physical(self, normalised: Tensor) -> Tensor:
        """Normalised rows [..., cell], or their prognostic part, to physical ones."""
        n = normalised.shape[-1]
        return torch.addcmul(self.mean[:n], normalised, self.std[:n])

    def unpack(
        self,
        rows: Tensor | Sequence[Tensor],
        normalised: bool = False,
        channels: slice = slice(None),
        out: Tensor | None = None,
    ) -> Tensor:
        """Rows of a store to normalised channels [time, channel, lat, lon].

        Parameters
        ----------
        rows: [time, cell], or several such pieces that follow one another
        normalised: whether the rows are normalised already
        channels: which channels to make
        out: where to put them; on land it must hold zeros
        """
        pieces = [rows] if isinstance(rows, Tensor) else rows
        if out is None:
            out = torch.zeros(sum(map(len, pieces)), *self.mask[channels].shape, device=self.device)
        if self.device.type == "cpu":
            self._put([row for piece in pieces for row in piece], normalised, channels, out)
        else:
            self._gather(torch.cat([piece.to(self.device) for piece in pieces]), normalised, channels, out)
        return out

    def _gather(self, rows: Tensor, normalised: bool, channels: slice, out: Tensor) -> None:
        """Each dense cell picks its value, or the zero that is put before the row."""
        values = nn.functional.pad(rows if normalised else self.normalise(rows), (1, 0))
        out.copy_(values.index_select(1, self._positions()[channels].flatten()).view(out.shape))

    def _put(self, rows: Sequence[Tensor], normalised: bool, channels: slice, out: Tensor) -> None:
        """Put rows [cell] into place, a share of the circles of latitude to each of torch's threads."""
        n_lat, n_lon = self.mask.shape[1:]
        first, last, _ = channels.indices(len(self.mask))
        first, last = first * n_lat, last * n_lat
        at_once = max(1, _CELLS_AT_ONCE // n_lon)
        n = max(1, min(torch.get_num_threads(), -(-(last - first) // at_once)))
        dense = list(out.view(len(out), -1).numpy())

        def put(begin: int, end: int) -> None:
            for start in range(begin, end, at_once):
                self._put_circles(rows, normalised, start, min(start + at_once, end), first, dense)

        shares = list(pairwise(first + k * (last - first) // n for k in range(n + 1)))
        others = [_threads(n - 1).submit(put, *share) for share in shares[1:]]
        put(*shares[0])
        for other in others:
            other.result()

    def _put_circles(
        self, rows: Sequence[Tensor], normalised: bool, start: int, stop: int, first: int, dense: Sequence[np.ndarray]
    ) -> None:
        """Circles `start` to `stop - 1` of all rows; `dense` [cell] begin at circle `first`.

        A few circles at a time: what is read, of the normalisation, too, stays in the processor's cache until it is used.
        NumPy's assignment through a boolean mask copies runs of cells, several times faster than torch gathers them; and
        NumPy's arithmetic starts no threads of its own.
        """
        n_lon = self.mask.shape[-1]
        mask = self.mask.flatten()[start * n_lon : stop * n_lon].numpy()
        target = slice((start - first) * n_lon, (stop - first) * n_lon)
        cells = slice(self.circles[start], self.circles[stop])
        scale, offset = self.scale[cells].numpy(), self.offset[cells].numpy()
        part = np.empty(cells.stop - cells.start, "f4")
        for row, into in zip((row[cells] for row in rows), dense, strict=True):
            if normalised:
                into[target][mask] = row.numpy()
                continue
            np.multiply(row.numpy() if row.dtype == torch.float32 else row.float().numpy(), scale, out=part)
            np.add(part, offset, out=part)
            into[target][mask] = part

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
