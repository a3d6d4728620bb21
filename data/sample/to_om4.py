"""Lay 5-day means of simulate.py out as OM4 stores are: one array per variable and level, wet masks, Zarr version 2.

Usage: python to_om4.py OUTPUT.zarr FIRST_YEAR YEAR_0.npz YEAR_1.npz ...
"""

import datetime
import sys
from typing import Any, NamedTuple

import cftime
import numpy as np
import xarray as xr
from grid import DX, DZ, LAT, LAT_EDGES, LON, Z
from numcodecs import Blosc


class Field(NamedTuple):
    """How a field is written."""

    units: str
    standard_name: str  # of the CF conventions
    precision: float  # in `units`; a power of two, to which values are rounded


FIELDS = {
    "thetao": Field("degC", "sea_water_potential_temperature", 1 / 256),
    "so": Field("1e-3", "sea_water_salinity", 1 / 2048),
    "uo": Field("m s-1", "eastward_sea_water_velocity", 1 / 8192),
    "vo": Field("m s-1", "northward_sea_water_velocity", 1 / 8192),
    "zos": Field("m", "sea_surface_height_above_geoid", 1 / 4096),
    "tauuo": Field("N m-2", "surface_downward_eastward_stress", 1 / 8192),
    "tauvo": Field("N m-2", "surface_downward_northward_stress", 1 / 8192),
    "hfds": Field("W m-2", "surface_downward_heat_flux_in_sea_water", 1 / 16),
}
ATTRIBUTES = {
    "title": "Sample ocean: Veros, global 3.75 x 3.125 degrees, 12 levels, 5-day means",
    "grid_type": "gaussian",
    "Conventions": "CF-1.10",
}
GRAVITY = 9.81  # m s-2, as in Veros
RADIUS = 6.371e6  # m
DAYS_PER_MEAN = 5

Entry = tuple[tuple[str, ...], np.ndarray] | tuple[tuple[str, ...], np.ndarray, dict[str, Any]]  # of an xarray dataset


def main(output: str, first_year: int, files: list[str]) -> None:
    """Write the model years in `files`, the first of which is `first_year`, to the store `output`."""
    years = [np.load(file) for file in files]
    wet = np.moveaxis(years[0]["mask"] > 0, -1, 0)[::-1].transpose(0, 2, 1)  # [level, lat, lon], surface first
    data: dict[str, Entry] = {}
    for name, values in read_fields(years).items():
        data |= split_levels(name, values, wet)
    data |= {f"mask_{k}": (("y", "x"), mask) for k, mask in enumerate(wet)}
    data["areacello"] = (("y", "x"), cell_areas(), {"units": "m2"})
    data["dz"] = (("lev",), DZ, {"units": "m"})
    times = mid_times(first_year, count=sum(len(year["psi"]) for year in years))
    dataset = xr.Dataset(data, coordinates(times), ATTRIBUTES)
    codec = Blosc(cname="zstd", clevel=9, shuffle=Blosc.BITSHUFFLE)
    chunks = (365 // DAYS_PER_MEAN, len(LAT), len(LON))  # a year
    encoding = {v: {"chunks": chunks, "compressors": (codec,)} for v in dataset if "time" in dataset[v].dims}
    dataset.to_zarr(output, mode="w", zarr_format=2, consolidated=True, encoding=encoding)


def read_fields(years: list[Any]) -> dict[str, np.ndarray]:
    """OM4's fields at cell centres, in OM4's units: [time, lat, lon] or [time, level, lat, lon], surface first."""

    def joined(name: str) -> np.ndarray:
        return np.concatenate([year[name] for year in years])

    return {
        "thetao": horizontal_last(joined("temp")),
        "so": horizontal_last(joined("salt")),
        "uo": horizontal_last(to_centre(joined("u"), axis=1)),
        "vo": horizontal_last(to_centre(joined("v"), axis=2)),
        "zos": horizontal_last(joined("psi")) / GRAVITY,  # from surface pressure / density, m2 s-2
        "tauuo": horizontal_last(to_centre(joined("surface_taux"), axis=1)),
        "tauvo": horizontal_last(to_centre(joined("surface_tauy"), axis=2)),
        "hfds": horizontal_last(joined("hfds")),
    }


def horizontal_last(field: np.ndarray) -> np.ndarray:
    """Veros' order [time, lon, lat(, level from the bottom up)] -> OM4's [time(, level from the top), lat, lon]."""
    return field.transpose(0, 2, 1) if field.ndim == 3 else field.transpose(0, 3, 2, 1)[:, ::-1]


def to_centre(face: np.ndarray, axis: int) -> np.ndarray:
    """From eastern (axis 1, periodic) or northern (axis 2) faces to cell centres; walls count as zero."""
    before = np.roll(face, 1, axis)
    if axis == 2:
        before[:, :, 0] = 0.0
    return 0.5 * (face + before)


def split_levels(name: str, values: np.ndarray, wet: np.ndarray) -> dict[str, Entry]:
    """One array per level of a field, rounded, NaN where not wet; `wet` is [level, lat, lon]."""
    field = FIELDS[name]
    attributes = field._asdict()
    levels = [(name, values, 0, attributes)]
    if values.ndim == 4:
        levels = [(f"{name}_{k}", values[:, k], k, {**attributes, "depth_m": float(z)}) for k, z in enumerate(Z)]
    return {
        label: (("time", "y", "x"), np.where(wet[k], rounded(level, field.precision), np.nan).astype("f4"), attrs)
        for label, level, k, attrs in levels
    }


def rounded(values: np.ndarray, step: float) -> np.ndarray:
    """To the nearest multiple of `step`, float64."""
    return np.round(values.astype("f8") / step) * step


def cell_areas() -> np.ndarray:
    """Areas of the cells on the sphere [lat, lon], m2."""
    area = np.deg2rad(DX) * RADIUS**2 * np.diff(np.sin(np.deg2rad(LAT_EDGES)))
    return np.repeat(area[:, None], len(LON), 1)


def mid_times(first_year: int, count: int) -> list[cftime.DatetimeNoLeap]:
    """Middles of `count` consecutive 5-day means, the first of which starts on 1 January of `first_year`."""
    start = cftime.DatetimeNoLeap(first_year, 1, 1)
    return [start + datetime.timedelta(days=DAYS_PER_MEAN * (i + 0.5)) for i in range(count)]


def coordinates(times: list[cftime.DatetimeNoLeap]) -> dict[str, Any]:
    """Cell centres and times."""
    return {
        "time": ("time", times),
        "y": ("y", LAT, {"units": "degrees_north"}),
        "x": ("x", LON, {"units": "degrees_east"}),
        "lev": ("lev", Z, {"units": "m", "positive": "down"}),
    }


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
