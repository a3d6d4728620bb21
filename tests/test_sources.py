"""The layouts in which OM4 was published give one and the same ocean."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import xarray as xr
from numcodecs import Blosc, Delta
from zarr.codecs import BloscCodec

from ocean_emulators.datasets.source.layouts import open_source
from ocean_emulators.errors import UserError
from tests import tiny

THREE_D = ("thetao", "so", "uo", "vo")


def tiny_ocean() -> xr.Dataset:
    return tiny.dataset(years=1)


def stacked_mask(dataset: xr.Dataset) -> xr.Dataset:
    wetmask = xr.concat([dataset[f"mask_{k}"] for k in range(tiny.LEVELS)], "lev").astype("f4")
    return dataset.drop_vars([f"mask_{k}" for k in range(tiny.LEVELS)]).assign(wetmask=wetmask)


def by_depth(dataset: xr.Dataset) -> xr.Dataset:
    depth = {0: "10_0", 1: "70_0"}
    return stacked_mask(dataset).rename({f"{n}_{k}": f"{n}_lev_{d}" for n in THREE_D for k, d in depth.items()})


def compact(dataset: xr.Dataset) -> xr.Dataset:
    stacked = {n: xr.concat([dataset[f"{n}_{k}"] for k in range(tiny.LEVELS)], "lev") for n in THREE_D}
    flat = [f"{n}_{k}" for n in THREE_D for k in range(tiny.LEVELS)]
    return stacked_mask(dataset).drop_vars(flat).assign(stacked)


def maskless(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.drop_vars([f"mask_{k}" for k in range(tiny.LEVELS)])


def two_d(dataset: xr.Dataset) -> xr.Dataset:
    lat, lon = xr.broadcast(dataset["y"], dataset["x"])
    corners = (("y_b", "x_b"), np.zeros((tiny.N_LAT + 1, tiny.N_LON + 1)))
    return dataset.assign_coords(
        lat=lat.drop_vars(["x", "y"]), lon=lon.drop_vars(["x", "y"]), lat_b=corners, dayofyear=dataset["time.dayofyear"]
    )


def named_otherwise(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.rename(y="latitude", x="longitude")


def beside_numbers(dataset: xr.Dataset) -> xr.Dataset:
    """Dimensions without coordinates, and one-dimensional latitudes and longitudes along them."""
    lat, lon = dataset["y"].values, dataset["x"].values
    return dataset.drop_vars(["y", "x"]).assign_coords(lat=("y", lat), lon=("x", lon))


def masks_as_numbers(dataset: xr.Dataset) -> xr.Dataset:
    """As they come out of files: one where there is ocean, missing on land; at every time."""
    changed = {f"mask_{k}": dataset[f"mask_{k}"].where(dataset[f"mask_{k}"]) for k in range(tiny.LEVELS)}
    always = xr.DataArray(np.ones(dataset.sizes["time"], "f4"), dims="time")
    return dataset.assign(changed).assign(mask_1=always * changed["mask_1"])


def opened(dataset: xr.Dataset, path: Path) -> xr.Dataset:
    dataset.to_zarr(path, zarr_format=2)
    return open_source(str(path)).load()


@pytest.mark.parametrize(
    "layout", [by_depth, compact, maskless, two_d, named_otherwise, beside_numbers, masks_as_numbers]
)
def test_layouts_agree(layout: object, tmp_path: Path) -> None:
    assert callable(layout)
    current = opened(tiny_ocean(), tmp_path / "current.zarr")
    other = opened(layout(tiny_ocean()), tmp_path / "other.zarr")
    assert set(current.data_vars) == set(other.data_vars)
    for name in current.data_vars:
        assert current[name].dtype == other[name].dtype
        xr.testing.assert_equal(current[name], other[name])
    assert current["mask_1"].dtype == bool
    assert current["thetao_1"].dims == ("time", "lat", "lon")


@pytest.mark.parametrize(
    ("zarr_format", "encoding"),
    [
        (2, {"dtype": ">f4"}),
        (3, {"dtype": ">f4"}),
        (2, {"filters": [Delta("<f4")]}),
        (2, {"compressors": [Blosc()]}),
        (3, {"compressors": [BloscCodec()]}),
    ],
    # Not their repr, in which a codec's sets come in another order in each process.
    ids=["big-endian-2", "big-endian-3", "delta-2", "blosc-2", "blosc-3"],
)
def test_encodings_agree(zarr_format: Literal[2, 3], encoding: dict[str, Any], tmp_path: Path) -> None:
    """Those that compiled threads decode, and those that are left to Zarr."""
    dataset = tiny_ocean().fillna(0)  # a difference to a missing value is missing
    current = opened(dataset, tmp_path / "current.zarr")
    names = [str(n) for n, v in dataset.data_vars.items() if "time" in v.dims]
    dataset.to_zarr(tmp_path / "other.zarr", zarr_format=zarr_format, encoding=dict.fromkeys(names, encoding))
    xr.testing.assert_allclose(current, open_source(str(tmp_path / "other.zarr")).load(), rtol=1e-5, atol=1e-4)


def test_what_is_not_there_or_no_zarr_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.source: .*nowhere.zarr: no such file or folder"):
        open_source(str(tmp_path / "nowhere.zarr"))
    (tmp_path / "text.zarr").mkdir()
    (tmp_path / "text.zarr" / "note.txt").write_text("no data")
    with pytest.raises(UserError, match=r"text.zarr: can.t be opened as a Zarr store"):
        open_source(str(tmp_path / "text.zarr"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.drop_vars("lev"), "has no coordinate 'lev'"),
        (lambda d: d.drop_vars("x"), "has no coordinate 'lon'"),
        (lambda d: d.drop_vars("dz"), "has no layer thicknesses `dz`"),
        (lambda d: d.rename(so_1="so_lev_71_5"), "so_lev_71_5 is at 71.5 m, which is none of the levels"),
        (
            lambda d: two_d(d).assign_coords(y=np.arange(16.0)),
            "`y` and the two-dimensional `lat` differ by up to 84.375",
        ),
        (lambda d: maskless(d).fillna(0.0), "has no masks, and thetao_0 has a value everywhere"),
        (lambda d: maskless(d).drop_vars("thetao_1"), "has neither mask_1, nor wetmask, nor thetao_1"),
    ],
    ids=["lev", "lon", "dz", "depth", "curved", "no land", "mask"],
)
def test_what_every_layout_needs_is_asked_for(change: object, message: str, tmp_path: Path) -> None:
    assert callable(change)
    with pytest.raises(UserError, match=message):
        opened(change(tiny_ocean()), tmp_path / "s.zarr")
