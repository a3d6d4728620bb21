"""The embedded sample ocean opens as an OM4-layout store and holds what its README says."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import cftime
import numpy as np
import pytest
import xarray as xr
import zarr

PATH = Path(__file__).parents[1] / "data" / "sample" / "sample_ocean.zarr.zip"
LEVELS = 12
SURFACE_UNITS = {"zos": "m", "tauuo": "N m-2", "tauvo": "N m-2", "hfds": "W m-2"}
COLUMN_UNITS = {"thetao": "degC", "so": "1e-3", "uo": "m s-1", "vo": "m s-1"}
UNITS = SURFACE_UNITS | {f"{name}_{k}": units for name, units in COLUMN_UNITS.items() for k in range(LEVELS)}
PRECISION = {
    "thetao_0": 1 / 128,
    "thetao_11": 1 / 256,
    "so_3": 1 / 2048,
    "uo_0": 1 / 512,
    "vo_6": 1 / 8192,
    "zos": 1 / 1024,
}


@pytest.fixture(scope="module")
def ocean() -> Iterator[xr.Dataset]:
    with zarr.storage.ZipStore(PATH, mode="r") as store:
        yield xr.open_zarr(store, chunks=None)


def mask_of(ocean: xr.Dataset, name: str) -> np.ndarray:
    return ocean[f"mask_{name.partition('_')[2] or 0}"].values


def test_is_small_enough_for_a_repository() -> None:
    assert PATH.stat().st_size < 40e6


def test_has_every_field_with_its_units(ocean: xr.Dataset) -> None:
    others = {"areacello", "dz"} | {f"mask_{k}" for k in range(LEVELS)}
    assert set(ocean.data_vars) == set(UNITS) | others
    for name, units in UNITS.items():
        assert ocean[name].dims == ("time", "y", "x")
        assert ocean[name].dtype == np.float32
        assert ocean[name].attrs["units"] == units
    assert ocean["areacello"].attrs["units"] == "m2"
    assert ocean["dz"].attrs["units"] == ocean["lev"].attrs["units"] == "m"


def test_has_six_years_of_five_days_without_leap_days(ocean: xr.Dataset) -> None:
    times = ocean["time"].values
    assert len(times) == 6 * 73
    assert all(isinstance(time, cftime.DatetimeNoLeap) for time in times)
    assert times[0] == cftime.DatetimeNoLeap(1983, 1, 3, 12)
    assert times[-1] == cftime.DatetimeNoLeap(1988, 12, 29, 12)
    assert {(b - a).total_seconds() for a, b in itertools.pairwise(times)} == {5 * 86_400}


def test_grid_covers_the_sphere_from_75_south_to_75_north(ocean: xr.Dataset) -> None:
    assert dict(ocean.sizes) == {"time": 438, "y": 48, "x": 96, "lev": LEVELS}
    zone = 4 * np.pi * 6.371e6**2 * np.sin(np.deg2rad(75))
    assert ocean["areacello"].values.sum() == pytest.approx(zone)
    edges = np.append(0, np.cumsum(ocean["dz"].values))
    assert np.all((edges[:-1] < ocean["lev"].values) & (ocean["lev"].values < edges[1:]))


def test_masks_shrink_with_depth(ocean: xr.Dataset) -> None:
    masks = np.stack([ocean[f"mask_{k}"].values for k in range(LEVELS)])
    assert masks.dtype == bool
    assert masks[0].sum() == 3046
    assert masks[-1].sum() == 2262
    assert not np.any(masks[1:] & ~masks[:-1])


@pytest.mark.parametrize("name", [*PRECISION, "tauuo", "hfds"])
def test_wet_cells_have_values_and_dry_cells_none(ocean: xr.Dataset, name: str) -> None:
    wet = mask_of(ocean, name)
    assert np.array_equal(np.isfinite(ocean[name].values), np.broadcast_to(wet, ocean[name].shape))


@pytest.mark.parametrize("name", PRECISION)
def test_values_are_multiples_of_the_precision(ocean: xr.Dataset, name: str) -> None:
    assert ocean[name].attrs["precision"] == PRECISION[name]
    steps = ocean[name].values[:, mask_of(ocean, name)].astype("f8") / PRECISION[name]
    assert np.array_equal(steps, np.round(steps))
