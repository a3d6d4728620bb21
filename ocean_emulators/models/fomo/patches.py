"""A latent grid that all resolutions share: each of its cells stands for a patch, the same piece of the globe on every grid."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ocean_emulators.errors import UserError
from ocean_emulators.models.base import OceanContext


@dataclass(frozen=True)
class PatchedGrid:
    """A grid that is cut into patches."""

    ocean: OceanContext
    patch: tuple[int, int]
    """(lat, lon), cells of the grid"""

    @property
    def name(self) -> str:
        """Of the grid."""
        return self.ocean.name

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Number of patches, (lat, lon)."""
        (n_lat, n_lon), (height, width) = self.ocean.grid_shape, self.patch
        return n_lat // height, n_lon // width

    @property
    def lat(self) -> np.ndarray:
        """[patch, cell in it], degrees north, float64"""
        return np.asarray(self.ocean.lat, "f8").reshape(-1, self.patch[0])

    @property
    def lon(self) -> np.ndarray:
        """[patch, cell in it], degrees east, float64"""
        return np.asarray(self.ocean.lon, "f8").reshape(-1, self.patch[1])

    def split(self, x: Tensor) -> Tensor:
        """[batch, channel, lat, lon] -> [batch · patch, cell in it, channel], patches row by row, their cells likewise"""
        return split_windows(x, self.patch)


class PerGrid(nn.Module):
    """A constant tensor for each grid, float32. It follows from the grid, and stays out of checkpoints."""

    def __init__(self, constants: Mapping[str, np.ndarray | Tensor]) -> None:
        super().__init__()
        for grid, constant in constants.items():
            tensor = torch.as_tensor(constant, dtype=torch.float32)
            self.register_buffer(grid, tensor, persistent=False)

    def forward(self, grid: str) -> Tensor:
        """The constant of one grid."""
        return self.get_buffer(grid)


def split_windows(x: Tensor, window: tuple[int, int]) -> Tensor:
    """[batch, channel, lat, lon] -> [batch · window, cell in it, channel], windows row by row, their cells likewise."""
    height, width = window
    x = x.unflatten(3, (-1, width)).unflatten(2, (-1, height))  # batch, channel, row, cell, column, cell
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(0, 2)


def join_windows(x: Tensor, window: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """The inverse of `split_windows`, for a grid of some shape (lat, lon)."""
    (height, width), (n_lat, n_lon) = window, shape
    x = x.unflatten(1, window).unflatten(0, (-1, n_lat // height, n_lon // width))
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def cut(oceans: Sequence[OceanContext], extent: tuple[float, float]) -> list[PatchedGrid]:
    """Cut the grids of several resolutions into the same patches.

    Parameters
    ----------
    oceans: the resolutions
    extent: of a patch, (lat, lon), degrees

    Raises
    ------
    UserError
        If patches don't divide a grid, or are not as many on each, with an extent that fits all.
    """
    grids = [PatchedGrid(ocean, _patch_in_cells(ocean, extent)) for ocean in oceans]
    for grid in grids:
        sizes = list(zip(grid.ocean.grid_shape, grid.patch, strict=True))
        if any(cells == 0 or size % cells for size, cells in sizes):
            raise UserError(
                f"model.patch_extent: {_degrees(extent)} degrees are {grid.patch[0]} × {grid.patch[1]} cells of the grid "
                f"of {sizes[0][0]} × {sizes[1][0]} (lat × lon), which do not divide it; {_what_fits(oceans, extent)}"
            )
    first = grids[0]
    for grid in grids[1:]:
        if grid.latent_shape != first.latent_shape:
            numbers = " but ".join(
                "{} × {} patches on the grid of {} × {}".format(*g.latent_shape, *g.ocean.grid_shape)
                for g in (first, grid)
            )
            raise UserError(
                f"model.patch_extent: {_degrees(extent)} degrees give {numbers}; all resolutions must have as many: "
                f"{_what_fits(oceans, extent)}"
            )
    return grids


def _patch_in_cells(ocean: OceanContext, extent: tuple[float, float]) -> tuple[int, int]:
    height, width = _cell(ocean)
    return round(extent[0] / height), round(extent[1] / width)


def _cell(ocean: OceanContext) -> tuple[float, float]:
    """Mean size of a cell, degrees. A grid need not reach from pole to pole, but goes around the globe."""
    lat = ocean.lat.double()
    return float(lat[-1] - lat[0]) / (len(lat) - 1), 360 / len(ocean.lon)


def _what_fits(oceans: Sequence[OceanContext], extent: tuple[float, float]) -> str:
    """The extent nearest to the one wanted of which each grid holds the same whole number."""
    fitting = []
    for axis, wanted in enumerate(extent):
        size, cell = oceans[0].grid_shape[axis], _cell(oceans[0])[axis]
        common = math.gcd(*(ocean.grid_shape[axis] for ocean in oceans))
        extents = [size * cell / number for number in range(1, common + 1) if common % number == 0]
        fitting.append(min(extents, key=lambda e: abs(math.log(e / wanted))))
    return f"the nearest that fits is {_degrees(fitting)}"


def _degrees(extent: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in extent) + "]"
