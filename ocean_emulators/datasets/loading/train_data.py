"""Training windows on one or several grids, as the stepper asks for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.requirements import DataRequirements


class Draw(NamedTuple):
    """Which windows make a batch: all on one grid."""

    grid: str
    """its name"""
    indices: list[int]
    """windows on that grid"""


@dataclass(frozen=True)
class Batch:
    """Normalised fields on the device, land zero."""

    prognostic: Tensor
    """[window, time, channel, lat, lon]"""
    forcing: Tensor
    """[window, time, channel, lat, lon]"""
    grid: str = "x1"
    """name of the grid that they are on"""


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
        self.rows, self.length = rows, needs.length(model_steps)
        self.starts = needs.window_starts(rows.times, what, model_steps, strides)
        """[window], its first time and stride"""

    def __len__(self) -> int:
        return len(self.starts)

    def buffer(self, windows: int) -> Tensor:
        """Memory for a batch: dense fields on a CPU, else rows on their way to the device."""
        packing = self.rows.packing
        if packing.device.type == "cpu":
            return torch.zeros(windows, self.length, *packing.mask.shape)
        (row,) = self.rows.window(self.starts[0][0], 1)
        pinned = row.device.type == "cpu"
        return torch.empty(windows, self.length, row.shape[1], dtype=row.dtype, device=row.device, pin_memory=pinned)

    def load(self, indices: Sequence[int], buffer: Tensor | None = None) -> Batch:
        """A batch of windows, made in `buffer` (of `self.buffer`), of which on a CPU it stays a view."""
        packing, normalised = self.rows.packing, self.rows.normalised
        into = self.buffer(len(indices)) if buffer is None else buffer[: len(indices)]
        on_cpu = packing.device.type == "cpu"
        for window, index in zip(into, indices, strict=True):
            first, stride = self.starts[index]
            pieces = self.rows.window(first, self.length, stride)
            packing.unpack(pieces, normalised, out=window) if on_cpu else torch.cat(pieces, out=window)
        if not on_cpu:
            rows = into.to(packing.device, non_blocking=True).flatten(0, 1)
            into = packing.unpack(rows, normalised).view(len(indices), self.length, *packing.mask.shape)
        return Batch(into[:, :, packing.prognostic_channels], into[:, :, packing.forcing_channels])


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
        into = None if buffer is None else buffer[draw.grid]
        return replace(self.windows[draw.grid].load(draw.indices, into), grid=draw.grid)
