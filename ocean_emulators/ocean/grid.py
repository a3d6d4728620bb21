"""Horizontal grid and depth levels."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from ocean_emulators.errors import UserError
from ocean_emulators.ocean.constants import EARTH_RADIUS


def grid_name(factor: int) -> str:
    """What a grid is called everywhere: `x2` is the source's own, coarsened by 2 (`data.coarsen`)."""
    return f"x{factor}"


@dataclass(frozen=True)
class Grid:
    """A regular global grid, periodic in longitude, and its levels from the surface down."""

    lat: np.ndarray
    """[lat], degrees north, ascending"""
    lon: np.ndarray
    """[lon], degrees east, ascending, uniform"""
    area: np.ndarray
    """[lat, lon], m2"""
    lev: np.ndarray
    """[lev], depth of the level centres, m"""
    thickness: np.ndarray
    """[lev], m"""
    ocean_fraction: np.ndarray | None = None
    """[lev, lat, lon], share of each cell's area that is ocean, 0 on land; None: a cell is all ocean or all land"""

    @property
    def shape(self) -> tuple[int, int]:
        """(number of latitudes, number of longitudes)"""
        return len(self.lat), len(self.lon)

    def wet_area(self, level: int) -> np.ndarray:
        """What the cells that a mask calls wet weigh in sums over a level, m2 [lat, lon]."""
        return self.area if self.ocean_fraction is None else self.area * self.ocean_fraction[level]

    def to_dataset(self) -> xr.Dataset:
        """The grid with CF names, units and attributes."""
        variables: dict[str, tuple[object, ...]] = {
            "areacello": (("lat", "lon"), self.area, {"standard_name": "cell_area", "units": "m2"}),
            "dz": ("lev", self.thickness, {"standard_name": "cell_thickness", "units": "m"}),
        }
        if self.ocean_fraction is not None:
            attributes = {"standard_name": "sea_area_fraction", "units": "1"}
            variables["ocean_fraction"] = (("lev", "lat", "lon"), self.ocean_fraction, attributes)
        return xr.Dataset(
            variables,
            coords={
                "lat": ("lat", self.lat, {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"}),
                "lon": ("lon", self.lon, {"standard_name": "longitude", "units": "degrees_east", "axis": "X"}),
                "lev": ("lev", self.lev, {"standard_name": "depth", "units": "m", "positive": "down", "axis": "Z"}),
            },
        )

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> "Grid":
        """Read the grid of a dataset with coordinates `lat`, `lon`, `lev`; areas are computed where it has none.

        A fraction that is missing counts as land.

        Raises
        ------
        UserError
            If latitudes do not ascend, or longitudes are not uniform around the globe.
        """
        lat, lon = (np.asarray(dataset[name].values, "f8") for name in ("lat", "lon"))
        _require_regular(lat, lon)
        area = dataset["areacello"].values if "areacello" in dataset else cell_area(lat, lon)
        fraction = None
        if "ocean_fraction" in dataset:
            fraction = np.nan_to_num(dataset["ocean_fraction"].transpose("lev", "lat", "lon").values.astype("f8"))
        return cls(
            lat=lat,
            lon=lon,
            area=np.asarray(area, "f8"),
            lev=np.asarray(dataset["lev"].values, "f8"),
            thickness=np.asarray(dataset["dz"].values, "f8"),
            ocean_fraction=fraction,
        )


def cell_area(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Area of the cells around centres, m2 [lat, lon]: on a sphere, with edges midway between the latitudes."""
    inner = 0.5 * (lat[1:] + lat[:-1])
    edges = np.concatenate([[lat[0] - (inner[0] - lat[0])], inner, [lat[-1] + (lat[-1] - inner[-1])]])
    zones = np.diff(np.sin(np.deg2rad(np.clip(edges, -90, 90))))
    width = np.deg2rad(360.0 / len(lon))
    return np.repeat((EARTH_RADIUS**2 * width * zones)[:, None], len(lon), axis=1)


def _require_regular(lat: np.ndarray, lon: np.ndarray) -> None:
    if lat.ndim != 1 or lon.ndim != 1:
        raise UserError(
            f"the grid has latitudes of shape {lat.shape} and longitudes of shape {lon.shape}: "
            "only grids with one-dimensional coordinates can be used; regrid the source first"
        )
    if not (np.diff(lat) > 0).all():
        raise UserError("the latitudes of the grid do not ascend; sort the source by latitude first")
    if not np.allclose(np.diff(lon), 360 / len(lon), rtol=1e-3):
        raise UserError(f"the longitudes of the grid are not {len(lon)} equal steps around the globe")
