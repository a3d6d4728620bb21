"""Between a grid and a latent grid that all resolutions share: means over wet area one way, interpolation the other.

Grids of latitudes and longitudes make both separable: two small matrices, one for each direction. Neither asks that one grid
divides the other, so any resolution can be read and written, one that is coarser than the latent grid, too.
"""

from dataclasses import dataclass

import numpy as np

from ocean_emulators.models.base import OceanContext


@dataclass(frozen=True)
class Axes:
    """Edges of the cells of a grid that goes around the globe, degrees."""

    lat: np.ndarray
    """[lat + 1], from south to north"""
    lon: np.ndarray
    """[lon + 1], over 360, from one in [0, 360)"""

    @classmethod
    def of(cls, ocean: OceanContext) -> "Axes":
        """Of a grid, from the centres of its cells."""
        lat = np.asarray(ocean.lat.numpy(), "f8")
        middle = (lat[1:] + lat[:-1]) / 2
        ends = (3 * lat[0] - lat[1]) / 2, (3 * lat[-1] - lat[-2]) / 2
        edges = np.clip(np.concatenate([ends[:1], middle, ends[1:]]), -90, 90)
        n_lon = len(ocean.lon)
        west = (float(ocean.lon.numpy()[0]) - 180 / n_lon) % 360
        return cls(edges, west + np.arange(n_lon + 1) * 360 / n_lon)

    def latent(self, extent: tuple[float, float]) -> "Axes":
        """Of the even grid over the same part of the globe whose cells are nearest to an extent (lat, lon), degrees.

        It begins at 0°E, so that it is the same for all resolutions.
        """
        south, north = self.lat[0], self.lat[-1]
        n_lat, n_lon = max(1, round((north - south) / extent[0])), max(1, round(360 / extent[1]))
        return Axes(np.linspace(south, north, n_lat + 1), np.linspace(0, 360, n_lon + 1))

    def joined(self, patch: tuple[int, int]) -> "Axes":
        """Of the grid whose cells are patches of so many cells (lat, lon), which divide this one."""
        return Axes(self.lat[:: patch[0]], self.lon[:: patch[1]])

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells, (lat, lon)."""
        return len(self.lat) - 1, len(self.lon) - 1

    @property
    def cell(self) -> np.ndarray:
        """[2], mean size of a cell, (lat, lon), degrees"""
        return np.array([(self.lat[-1] - self.lat[0]) / self.shape[0], 360 / self.shape[1]])


def overlaps(fine: Axes, coarse: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Area (on the unit sphere, up to a factor) that cells share: [coarse lat, fine lat] and [coarse lon, fine lon].

    The area shared by two cells is the product: sin(lat) measures the area of bands of latitude.
    """
    lat = _shared(np.sin(np.deg2rad(coarse.lat)), np.sin(np.deg2rad(fine.lat)))
    lon = sum(_shared(coarse.lon, fine.lon + turn) for turn in (-360, 0, 360))
    return lat, np.asarray(lon)


def interpolation(coarse: Axes, fine: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Weights of linear interpolation between centres, [fine lat, coarse lat] and [fine lon, coarse lon].

    Latitude is clamped at the first and last centre; longitude goes around.
    """
    from_lat, to_lat, from_lon, to_lon = (
        (edges[1:] + edges[:-1]) / 2 for edges in (coarse.lat, fine.lat, coarse.lon, fine.lon)
    )
    around = np.concatenate([from_lon[-1:] - 360, from_lon, from_lon[:1] + 360])
    west = around[1]
    wrapped = _linear(around, west + (to_lon - west) % 360)
    lon = wrapped[:, 1:-1].copy()
    lon[:, -1] += wrapped[:, 0]
    lon[:, 0] += wrapped[:, -1]
    return _linear(from_lat, to_lat), lon


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Length that intervals between edges `a` and those between edges `b` share, [a, b]."""
    low, high = np.maximum(a[:-1, None], b[None, :-1]), np.minimum(a[1:, None], b[None, 1:])
    shared: np.ndarray = np.maximum(high - low, 0)
    return shared


def _linear(nodes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Weights [point, node] of linear interpolation, constant beyond the ends."""
    return np.stack([np.interp(points, nodes, unit) for unit in np.eye(len(nodes))], axis=1)
