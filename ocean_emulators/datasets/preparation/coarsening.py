"""Conservative coarsening: blocks of cells become one cell that holds their mean over wet area.

A coarse cell is wet where any of its fine cells is, and from then on it weighs what was wet of it, so that the sum of value
times wet area over the globe (heat, salt, volume) stays what it was.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
import xarray as xr

from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.errors import UserError
from ocean_emulators.ocean.grid import Grid, grid_name

_SHARE_SLACK = 1e-3
"""By how much a source's fractions may exceed one: they come out of single-precision regridding."""


@dataclass(frozen=True, eq=False)
class Resolution:
    """One resolution of a source: its grid and what is wet there."""

    factor: int
    """how many cells of the source, in both directions, became one"""
    grid: Grid
    wet: np.ndarray
    """[lev, lat, lon], bool"""

    @property
    def name(self) -> str:
        """What the grid is called: `x1`, `x2`."""
        return grid_name(self.factor)


def block_sum(values: np.ndarray, factor: int) -> np.ndarray:
    """Sums over blocks of `factor` × `factor` cells, [..., lat, lon] -> [..., lat / factor, lon / factor]."""
    # In a fixed order, so that a sum does not depend on how many are taken at once; rows first, which are contiguous.
    rows = reduce(np.add, (values[..., i::factor, :] for i in range(factor)))
    total: np.ndarray = reduce(np.add, (rows[..., j::factor] for j in range(factor)))
    return total


def coarsen_field(values: np.ndarray, wet_area: np.ndarray, factor: int) -> np.ndarray:
    """Means over wet area of blocks of cells, float64.

    Parameters
    ----------
    values: [..., lat, lon], anything (NaN, too) where nothing is wet
    wet_area: [lat, lon], m2, zero on land

    Returns
    -------
    [..., lat / factor, lon / factor], zero where no cell of a block is wet
    """
    integral = block_sum(np.where(wet_area > 0, values, 0) * wet_area, factor)
    total = block_sum(wet_area, factor)
    mean: np.ndarray = np.divide(integral, total, out=np.zeros_like(integral), where=total > 0)
    return mean


def coarsen_resolution(fine: Resolution, factor: int) -> Resolution:
    """Grid and wet cells of a coarser resolution; with a factor of one, the same.

    Raises
    ------
    UserError
        If the factor does not divide the grid.
    """
    if factor == 1:
        return fine
    grid = fine.grid
    if any(n % factor for n in grid.shape):
        raise UserError(f"data.coarsen: {factor} does not divide the grid of the source, {grid.shape}")
    area = block_sum(grid.area, factor)
    wet_area = np.stack([grid.wet_area(level) * wet for level, wet in enumerate(fine.wet)])
    coarse = Grid(
        lat=grid.lat.reshape(-1, factor).mean(1),
        lon=grid.lon.reshape(-1, factor).mean(1),
        area=area,
        lev=grid.lev,
        thickness=grid.thickness,
        ocean_fraction=block_sum(wet_area, factor) / area,
    )
    return Resolution(fine.factor * factor, coarse, block_sum(fine.wet.astype(int), factor) > 0)


def require_fractions(resolution: Resolution) -> None:
    """Refuse a source whose `ocean_fraction` contradicts its masks: sums over area would miss what is predicted.

    Raises
    ------
    UserError
        Naming the first such cell.
    """
    fraction = resolution.grid.ocean_fraction
    if fraction is None:
        return
    wrong = resolution.wet & ~((fraction > 0) & (fraction <= 1 + _SHARE_SLACK))
    if wrong.any():
        level, i, j = np.argwhere(wrong)[0]
        raise UserError(
            f"data.source: ocean_fraction is {fraction[level, i, j]:g} in {int(wrong.sum())} cell(s) that masks call wet, "
            f"the first on level {level} at index ({i}, {j}); mend it to be above 0 and at most 1, or leave it out"
        )


def resolutions(dataset: xr.Dataset, config: DataConfig) -> tuple[Resolution, ...]:
    """The resolutions of a selected source: its own, then those of `data.coarsen`.

    Raises
    ------
    UserError
        If a factor does not divide the grid, or the source's ocean fractions contradict its masks.
    """
    wet = np.stack([dataset[f"mask_{k}"].values for k in range(dataset.sizes["lev"])])
    source = Resolution(1, Grid.from_dataset(dataset), wet)
    require_fractions(source)
    return source, *(coarsen_resolution(source, factor) for factor in config.coarsen)
