"""Where a cell is within its patch, and where and how large a patch is, as sines and cosines.

The encodings of patches are those of Aurora (Bodnar et al. 2025, doi:10.1038/s41586-025-09005-y). All are computed in float64:
the shortest wavelengths are far below the spacing of float32 at the longest.
"""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from ocean_emulators.models.fomo.patches import PatchedGrid, PerGrid
from ocean_emulators.ocean.constants import EARTH_RADIUS

# Wavelengths of positions, degrees.
_POSITION = (0.01, 720.0)
# Wavelengths of scales, as Aurora chose them from areas in km² (of 0.01° × 0.01° at a pole, and of the whole Earth), though
# what is encoded is the root of an area, km.
_SCALE = (1.0814e-4, 5.1121e8)


def cell_features(patch: tuple[int, int], max_frequency: float, bands: int) -> np.ndarray:
    """Fourier features of each cell's place in its patch, [cell, 2 · (2 · bands + 1)].

    On each axis p runs from -1 to 1; its features are sin(π p s) and cos(π p s) at `bands` evenly spaced scales s from 1 to
    max_frequency / 2, and p itself.
    """
    scales = np.linspace(1, max_frequency / 2, bands)
    axes = np.meshgrid(*(np.linspace(-1, 1, cells) for cells in patch), indexing="ij")
    features = []
    for p in axes:
        phase = math.pi * p.reshape(-1, 1) * scales
        features += [np.sin(phase), np.cos(phase), p.reshape(-1, 1)]
    return np.concatenate(features, axis=1)


def waves(x: np.ndarray, shortest: float, longest: float, width: int) -> np.ndarray:
    """sin, then cos, of 2π x / wavelength at width / 2 wavelengths, evenly spaced in their logarithm; […] -> […, width]."""
    phase = 2 * math.pi * x[..., None] / np.geomspace(shortest, longest, width // 2)
    return np.concatenate([np.sin(phase), np.cos(phase)], axis=-1)


def position_encoding(grid: PatchedGrid, width: int) -> np.ndarray:
    """Waves of each patch's mean latitude, then longitude, degrees; [lat, lon, width]."""
    lat, lon = grid.lat.mean(1), grid.lon.mean(1) % 360
    parts = np.meshgrid(lat, lon, indexing="ij")
    return np.concatenate([waves(part, *_POSITION, width // 2) for part in parts], axis=-1)


def scale_encoding(grid: PatchedGrid, width: int) -> np.ndarray:
    """Waves of the root of each patch's area, km; [lat, lon, width]."""
    return waves(patch_root_area(grid), *_SCALE, width)


def patch_root_area(grid: PatchedGrid) -> np.ndarray:
    """√(R² π (sin lat_max - sin lat_min) (lon_max - lon_min)), km [lat, lon], extremes taken over the centres of cells.

    Both the π and the centres, which make it smaller on a coarser grid, are the published model's.
    """
    height = np.sin(np.deg2rad(grid.lat.max(1))) - np.sin(np.deg2rad(grid.lat.min(1)))
    width = np.deg2rad(grid.lon.max(1) - grid.lon.min(1))
    root: np.ndarray = np.sqrt((EARTH_RADIUS / 1000) ** 2 * math.pi * height[:, None] * width[None, :])
    return root


class PatchEncoding(nn.Module):
    """Adds to the vector of each patch a learnt linear function of its position's encoding and of its scale's."""

    def __init__(self, width: int, grids: Sequence[PatchedGrid]) -> None:
        super().__init__()
        self.position = nn.Linear(width, width)
        self.scale = nn.Linear(width, width)
        self.positions = PerGrid({grid.name: position_encoding(grid, width) for grid in grids})
        self.scales = PerGrid({grid.name: scale_encoding(grid, width) for grid in grids})

    def forward(self, x: Tensor, grid: str) -> Tensor:
        """[batch, lat, lon, width] -> [batch, lat, lon, width]"""
        y: Tensor = x + self.position(self.positions(grid)) + self.scale(self.scales(grid))
        return y
