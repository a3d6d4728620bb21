"""A synthetic ocean in OM4's shapes, of any size, for tests and benchmarks; written one block of times at a time.

Coastlines, the layout of the store and the time axis are like OM4's, so that what reads OM4 can be tried on it. Its values
are either smooth and seasonal, or a code: each tells which variable, level, time and cell it belongs to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cftime
import dask.array as da
import numpy as np
import xarray as xr
import zarr

from ocean_emulators.ocean.constants import DAYS_PER_YEAR
from ocean_emulators.ocean.fields import FIELDS, Channel
from ocean_emulators.ocean.grid import cell_area
from ocean_emulators.ocean.levels import OM4_DEPTH, OM4_THICKNESS

Layout = Literal["current", "older", "legacy", "compact"]

_STEP_DAYS = 5
_FIRST_YEAR = 1958
_BLOCK_BYTES = 64 * 2**20
_WET_AT_SURFACE, _WET_AT_BOTTOM = 0.66, 0.04  # share of the cells
_TIME_UNITS = f"days since {_FIRST_YEAR}-01-01"
_MANTISSA = 2**23
_ANOMALY = "hfds_anomalies"


@dataclass(frozen=True)
class SyntheticOcean:
    """What a synthetic store holds."""

    lat: np.ndarray
    """[lat], degrees north"""
    lon: np.ndarray
    """[lon], degrees east"""
    time: np.ndarray
    """[time], cftime, Julian"""
    masks: np.ndarray
    """[lev, lat, lon], bool, true in the ocean; fewer cells the deeper"""
    encode: bool
    """whether values are a code"""
    land: float
    """what stands on land: NaN or 0"""

    @property
    def shape(self) -> tuple[int, int]:
        """(number of latitudes, number of longitudes)"""
        return len(self.lat), len(self.lon)

    def channels(self, with_anomaly: bool) -> list[Channel]:
        """All fields at all levels; the anomaly of the heat flux where the layout holds it."""
        levels: range = range(len(self.masks))
        named = (f for f in FIELDS.values() if with_anomaly or f.name != _ANOMALY)
        return [Channel(f, k) for f in named for k in (levels if f.has_levels else (None,))]

    def values(self, channel: Channel, start: int, stop: int) -> np.ndarray:
        """[time, lat, lon], float32, of the times `start` to `stop - 1`."""
        make = self._code if self.encode else self._weather
        return np.where(self.masks[channel.mask_level], make(channel, start, stop), np.float32(self.land))

    def _code(self, channel: Channel, start: int, stop: int) -> np.ndarray:
        return encode(channel_number(channel), np.arange(start, stop), self.shape)

    def _weather(self, channel: Channel, start: int, stop: int) -> np.ndarray:
        """A warm, salty tropical surface, a season that is opposite in the hemispheres, and waves that travel east."""
        seed = list(FIELDS).index(channel.field.name)
        depth = float(OM4_DEPTH[channel.mask_level]) if channel.field.has_levels else 0.0
        decay = np.float32(np.exp(-depth / 800))
        y, x = np.deg2rad(self.lat, dtype="f4")[:, None], np.deg2rad(self.lon, dtype="f4")
        year = (np.arange(start, stop, dtype="f4") * _STEP_DAYS / DAYS_PER_YEAR)[:, None, None]
        mean = 4 + seed + 20 * decay * np.cos(y) ** 2
        season = 3 * decay * np.cos(2 * np.pi * year) * -np.sin(y)
        wave = decay * np.cos(y) * np.cos((3 + seed) * x + 5 * y - 2 * np.pi * (2 + seed) * year)
        result: np.ndarray = (mean + season + wave).astype("f4")
        return result


def write_om4(
    path: Path | str,
    shape: tuple[int, int] = (180, 360),
    times: int = 146,
    levels: int = 19,
    layout: Layout = "current",
    zarr_format: Literal[2, 3] = 2,
    chunks: tuple[int, int, int] | Literal["published"] = "published",
    land: float = np.nan,
    encode: bool = False,
    seed: int = 0,
) -> SyntheticOcean:
    """Write a synthetic ocean of `times` five-day means from 1958 on, and return what it holds.

    `chunks` of a field are times × latitudes × longitudes; as published, each is one state, and none is compressed.
    Memory holds one block of times of one field.
    """
    ocean = make_ocean(shape, times, levels, land=land, encode=encode, seed=seed)
    chunk = (1, *shape) if chunks == "published" else chunks
    template = _template(ocean, layout)
    encoding: dict[str, dict[str, Any]] = {}
    for name, v in template.data_vars.items():
        if "time" in v.dims:
            encoding[str(name)] = {"chunks": (chunk[0], 1, *chunk[1:]) if "lev" in v.dims else chunk}
            if chunks == "published":
                encoding[str(name)]["compressors"] = None
    encoding["time"] = {"units": _TIME_UNITS, "calendar": "julian"}
    template.to_zarr(path, mode="w", compute=False, zarr_format=zarr_format, consolidated=True, encoding=encoding)
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    stride = chunk[0] * max(1, _BLOCK_BYTES // (4 * chunk[0] * shape[0] * shape[1]))
    for start in range(0, times, stride):
        stop = min(start + stride, times)
        for channel in ocean.channels(layout == "legacy"):
            array: Any = group[_stored_name(channel, layout)]
            block = slice(start, stop)
            index = (block, channel.level) if layout == "compact" and channel.field.has_levels else (block,)
            array[index] = ocean.values(channel, start, stop)
    return ocean


def make_ocean(
    shape: tuple[int, int], times: int, levels: int = 19, *, land: float = np.nan, encode: bool = False, seed: int = 0
) -> SyntheticOcean:
    """A synthetic ocean that is not written anywhere."""
    n_lat, n_lon = shape
    if encode:
        assert times * n_lat * n_lon <= _MANTISSA, "too many values for a code in float32"
    lat = (np.arange(n_lat) + 0.5) * 180 / n_lat - 90
    lon = (np.arange(n_lon) + 0.5) * 360 / n_lon
    return SyntheticOcean(lat, lon, om4_times(times), wet_masks(lat, lon, levels, seed), encode, land)


def om4_times(n: int) -> np.ndarray:
    """Centres of OM4's five-day means, [time], Julian, at noon: 73 a year from 3 January 1958 on, so that one step of
    each leap year has six days."""
    days = np.concatenate(list(_days_by_year(-(-n // 73))))[:n]
    return np.asarray(cftime.num2date(days, _TIME_UNITS, calendar="julian"))


def om4_periods(n: int, held_out: int) -> dict[str, dict[str, str]]:
    """Of `om4_times(n)`, as a configuration has them: the last to test, as many before to validate, the others to train."""
    days = [f"{t.year:04d}-{t.month:02d}-{t.day:02d}" for t in om4_times(n)]
    return {
        "train": {"start": days[0], "end": days[-2 * held_out - 1]},
        "validation": {"start": days[-2 * held_out], "end": days[-held_out - 1]},
        "test": {"start": days[-held_out], "end": days[-1]},
    }


def _days_by_year(n_years: int) -> Iterator[np.ndarray]:
    for year in range(_FIRST_YEAR, _FIRST_YEAR + max(1, n_years)):
        first = cftime.date2num(cftime.datetime(year, 1, 1, calendar="julian"), _TIME_UNITS, calendar="julian")
        yield first + _STEP_DAYS * (np.arange(73) + 0.5)


def wet_masks(lat: np.ndarray, lon: np.ndarray, levels: int, seed: int = 0) -> np.ndarray:
    """[lev, lat, lon], bool: continents of a few large shapes and a polar one, and basins that narrow with depth.

    The same for any resolution, save for the coast's detail; every level has an ocean.
    """
    rng = np.random.default_rng(seed)
    y, x = np.deg2rad(lat)[:, None], np.deg2rad(lon)[None, :]
    depth = 2.5 * np.tanh((lat[:, None] + 75) / 10)  # land around the south pole
    for wave in range(1, 6):
        for _ in range(3):
            phase, tilt = rng.uniform(0, 2 * np.pi), rng.normal(0, 2)
            depth = depth + rng.normal(0, 1 / wave) * np.cos(wave * x + tilt * y + phase) * np.cos(y)
    shares = np.linspace(_WET_AT_SURFACE, _WET_AT_BOTTOM, levels)
    thresholds = np.quantile(depth, 1 - shares)
    return np.stack([depth >= t for t in thresholds])


def channel_number(channel: Channel) -> int:
    """The place of a channel among all channels of all fields with OM4's levels."""
    number = 0
    for f in FIELDS.values():
        if f.name == channel.field.name:
            return number + (channel.level or 0)
        number += len(OM4_DEPTH) if f.has_levels else 1
    raise AssertionError(channel)


def encode(number: int, times: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The code of a channel at some times (numbers, [time]), [time, lat, lon], exact in float32.

    The exponent of a number tells the channel, its 23 bits behind the leading one tell time and cell.
    """
    n_lat, n_lon = shape
    cell = np.arange(n_lat * n_lon).reshape(shape)
    place = times[:, None, None] * (n_lat * n_lon) + cell
    codes: np.ndarray = np.ldexp((_MANTISSA + place).astype("f4"), number - 63).astype("f4")
    return codes


def decode(values: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Channel number, number of the time, of the latitude and of the longitude that each (finite) code stands for."""
    mantissa, exponent = np.frexp(values)
    place = np.ldexp(mantissa, 24).astype(np.int64) - _MANTISSA
    n_lat, n_lon = shape
    time, cell = np.divmod(place, n_lat * n_lon)
    lat, lon = np.divmod(cell, n_lon)
    return exponent.astype(np.int64) - 24 + 63, time, lat, lon


def _stored_name(channel: Channel, layout: Layout) -> str:
    if channel.level is None or layout == "compact":
        return channel.field.name
    if layout == "legacy":
        return f"{channel.field.name}_lev_{OM4_DEPTH[channel.level]:.1f}".replace(".", "_")
    return channel.name


def _template(ocean: SyntheticOcean, layout: Layout) -> xr.Dataset:
    """The store without its values. (One dask chunk a field: graphs of many chunks would take longer than the data.)"""
    n_lev, times = len(ocean.masks), len(ocean.time)
    flat = da.empty((times, *ocean.shape), chunks=-1, dtype="f4")
    deep = da.empty((times, n_lev, *ocean.shape), chunks=-1, dtype="f4")
    variables: dict[str, Any] = {}
    for channel in ocean.channels(layout == "legacy"):
        stacked = layout == "compact" and channel.field.has_levels
        dims, data = (("time", "lev", "y", "x"), deep) if stacked else (("time", "y", "x"), flat)
        variables[_stored_name(channel, layout)] = (dims, data, {"units": channel.field.units})
    if layout in ("current", "older"):
        variables |= {f"mask_{k}": (("y", "x"), mask) for k, mask in enumerate(ocean.masks)}
    else:
        variables["wetmask"] = (("lev", "y", "x"), ocean.masks.astype("f4"))
    coords = {"time": ("time", ocean.time), "y": ("y", ocean.lat), "x": ("x", ocean.lon)}
    return xr.Dataset(variables, coords | _more_coordinates(ocean, layout), {"grid_type": "gaussian"})


def _more_coordinates(ocean: SyntheticOcean, layout: Layout) -> dict[str, Any]:
    """What stores of a generation hold beside time, latitude and longitude."""
    if layout == "older":
        return {}
    n_lev, (n_lat, n_lon) = len(ocean.masks), ocean.shape
    lev = {"lev": ("lev", OM4_DEPTH[:n_lev]), "dz": ("lev", OM4_THICKNESS[:n_lev])}
    lat_b, lon_b = np.linspace(-90, 90, n_lat + 1), np.linspace(0, 360, n_lon + 1)
    corners = np.meshgrid(lat_b, lon_b, indexing="ij")
    centres = np.meshgrid(ocean.lat, ocean.lon, indexing="ij")
    two_d = {
        "lat": (("y", "x"), centres[0]),
        "lon": (("y", "x"), centres[1]),
        "lat_b": (("y_b", "x_b"), corners[0]),
        "lon_b": (("y_b", "x_b"), corners[1]),
    }
    if layout == "legacy":
        return lev | two_d | {"dayofyear": ("time", [t.dayofyr for t in ocean.time])}
    area = {"areacello": (("y", "x"), cell_area(ocean.lat, ocean.lon), {"units": "m2"})}
    fraction = {"ocean_fraction": (("lev", "y", "x"), ocean.masks.astype("f4"))}
    return lev | area | fraction | (two_d if layout == "current" else {})
