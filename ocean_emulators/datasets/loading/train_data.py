"""Training windows on one or several grids, as the stepper asks for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.requirements import DataRequirements


class Draw(NamedTuple):
    """Which windows make a batch: all on one grid."""

    grid: str
    """its name"""
    indices: Sequence[int]
    """windows on that grid"""
    model_steps: int | None = None
    """length of the rollout that they are for; None is as long as they are"""
    first: int = 0
    """which window of the batch of all ranks the first of these is"""
    total: int | None = None
    """number of windows in the batch of all ranks; None where these are all"""


ANY = Draw("x1", ())
"""Of windows that were not drawn."""


@dataclass(frozen=True)
class Batch:
    """Normalised fields on the device, land zero."""

    prognostic: Tensor
    """[window, time, channel, lat, lon]"""
    forcing: Tensor
    """[window, time, channel, lat, lon]"""
    draw: Draw = ANY
    """what was drawn"""

    @property
    def grid(self) -> str:
        """Name of the grid that they are on."""
        return self.draw.grid

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.prognostic)

    def split(self, parts: int) -> list["Batch"]:
        """Micro-batches: so many, of one size but for one window, or as many as there are windows."""
        n = len(self)
        bounds = [k * n // min(parts, n) for k in range(min(parts, n) + 1)] if n else []
        return [
            Batch(
                self.prognostic[a:b],
                self.forcing[a:b],
                self.draw._replace(indices=self.draw.indices[a:b], first=self.draw.first + a),
            )
            for a, b in pairwise(bounds)
        ]


class Windows:
    """All windows of a period on one grid, for rollouts of a number of model steps.

    The states of a window lie `stride` time steps of the data apart. With several strides, the windows of the first stride
    come first.
    """

    def __init__(
        self,
        rows: Rows,
        what: str,
        needs: DataRequirements,
        model_steps: int,
        strides: Sequence[int] = (1,),
    ) -> None:
        """The period is that of the rows; `what` is its name in messages.

        Raises
        ------
        UserError
            If the period is shorter than one window.
        """
        self.rows, self.needs, self.length = rows, needs, needs.length(model_steps)
        self.starts = needs.window_starts(rows.times, what, model_steps, strides)
        """[window], its first time and stride"""

    def __len__(self) -> int:
        return len(self.starts)

    def date(self, index: int, time: int) -> str:
        """The day of one of a window's times, counted from 0."""
        first, stride = self.starts[index]
        return str(self.rows.store.time[first + time * stride])[:10]

    def buffer(self, windows: int) -> Tensor:
        """Memory for a batch: dense fields on a CPU, else rows on their way to the device."""
        packing = self.rows.packing
        if packing.device.type == "cpu":
            return torch.zeros(windows, self.length, *packing.mask.shape)
        (row,) = self.rows.window(self.starts[0][0], 1)
        pinned = row.device.type == "cpu"
        return torch.empty(windows, self.length, row.shape[1], dtype=row.dtype, device=row.device, pin_memory=pinned)

    def load(self, draw: Draw, buffer: Tensor | None = None) -> Batch:
        """The windows of a draw, made in `buffer` (of `self.buffer`), of which on a CPU they stay a view."""
        packing, normalised, indices = self.rows.packing, self.rows.normalised, draw.indices
        length = self.length if draw.model_steps is None else self.needs.length(draw.model_steps)
        into = (self.buffer(len(indices)) if buffer is None else buffer[: len(indices)])[:, :length]
        on_cpu = packing.device.type == "cpu"
        for window, index in zip(into, indices, strict=True):
            first, stride = self.starts[index]
            pieces = self.rows.window(first, length, stride)
            packing.unpack(pieces, normalised, out=window) if on_cpu else torch.cat(pieces, out=window)
        if not on_cpu:
            rows = into.to(packing.device, non_blocking=True).flatten(0, 1)
            into = packing.unpack(rows, normalised).view(len(indices), length, *packing.mask.shape)
        return Batch(into[:, :, packing.prognostic_channels], into[:, :, packing.forcing_channels], draw)


class TrainData:
    """Windows by the name of their grid; a batch is on one of the grids."""

    def __init__(self, windows: Mapping[str, Windows]) -> None:
        self.windows = dict(windows)

    @property
    def device(self) -> torch.device:
        """Where batches lie."""
        return next(iter(self.windows.values())).rows.packing.device

    @property
    def sizes(self) -> dict[str, int]:
        """Number of windows on each grid."""
        return {grid: len(windows) for grid, windows in self.windows.items()}

    def buffer(self, windows: int) -> dict[str, Tensor]:
        """Memory for a batch on any grid."""
        return {grid: of_grid.buffer(windows) for grid, of_grid in self.windows.items()}

    def load(self, draw: Draw, buffer: Mapping[str, Tensor] | None = None) -> Batch:
        """The batch that was drawn."""
        return self.windows[draw.grid].load(draw, None if buffer is None else buffer[draw.grid])
