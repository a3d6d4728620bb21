"""The synthetic ocean: its time axis, its masks, its code, and its way through every layout into the packed store."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.source.layouts import open_source
from ocean_emulators.datasets.store.packed_store import open_store, store_path
from ocean_emulators.ocean import calendar
from ocean_emulators.ocean.fields import channel
from ocean_emulators.ocean.levels import OM4_DEPTH, OM4_THICKNESS
from ocean_emulators.testing.coded_ocean import (
    Layout,
    channel_number,
    decode,
    encode,
    make_ocean,
    om4_times,
    wet_masks,
    write_om4,
)
from tests.coded import LAYOUTS, SHAPE, TIMES, config


@pytest.mark.parametrize(
    ("layout", "zarr_format", "land"), list(itertools.product(LAYOUTS, (2, 3), (np.nan, 0.0))), ids=str
)
def test_every_value_comes_out_in_its_place(layout: Layout, zarr_format: Any, land: float, tmp_path: Path) -> None:
    levels = 19 if layout == "older" else 3
    path = tmp_path / "source.zarr"
    ocean = write_om4(path, SHAPE, TIMES, levels, layout, zarr_format, land=land, encode=True)
    forcing = ["tauuo", "tauvo", "hfds", *(["hfds_anomalies"] if layout == "legacy" else [])]
    prepare(config(path, [0, 2], forcing), tmp_path / "prepared")
    store = open_store(store_path(tmp_path / "prepared", "x1"))
    assert np.array_equal(store.time, ocean.time)
    assert np.allclose(store.grid.lev, OM4_DEPTH[:levels])
    assert np.allclose(store.grid.thickness, OM4_THICKNESS[:levels])
    rows, end = store.rows(0, len(store.time)), 0
    for c, mask in zip(store.channels, store.mask, strict=True):
        assert np.array_equal(mask, ocean.masks[c.mask_level])
        start, end = end, end + int(mask.sum())
        number, time, lat, lon = decode(rows[:, start:end], SHAPE)
        assert (number == channel_number(c)).all()
        assert (time == np.arange(TIMES)[:, None]).all()
        assert (np.stack([lat, lon], -1) == np.argwhere(mask)).all()
    assert end == rows.shape[1]


def test_layouts_are_one_canonical_dataset(tmp_path: Path) -> None:
    opened = {}
    for layout in LAYOUTS:
        write_om4(tmp_path / layout, SHAPE, 2, 19, layout)
        opened[layout] = open_source(str(tmp_path / layout)).load()
    first = opened["current"]
    assert first["ocean_fraction"].dims == ("lev", "lat", "lon")
    extra = {"areacello", "ocean_fraction", "hfds_anomalies"}
    for layout, dataset in opened.items():
        assert set(dataset.coords) == {"time", "lat", "lon", "lev"}, layout
        assert set(dataset.data_vars) - extra == set(first.data_vars) - extra
        for name in set(dataset.variables) & set(first.variables):
            xr.testing.assert_equal(dataset[name], first[name])


@given(
    number=st.integers(0, 81),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    start=st.integers(0, 2000),
)
def test_a_code_is_read_back(number: int, shape: tuple[int, int], start: int) -> None:
    codes = encode(number, np.arange(start, start + 2), shape)
    assert codes.dtype == np.float32
    assert np.isfinite(codes).all()
    decoded = decode(codes, shape)
    expected = np.broadcast_arrays(
        number, *np.meshgrid(np.arange(start, start + 2), *map(np.arange, shape), indexing="ij")
    )
    for found, wanted in zip(decoded, expected, strict=True):
        assert np.array_equal(found, wanted)


def test_every_year_has_73_means_and_a_leap_year_one_step_of_six_days() -> None:
    time = om4_times(4745)
    assert (str(time[0]), str(time[-1])) == ("1958-01-03 12:00:00", "2022-12-29 12:00:00")
    assert len(om4_times(1)) == 1
    years = np.array([t.year for t in time])
    assert (np.bincount(years - 1958) == 73).all()
    gaps = calendar.leap_gaps(time)
    assert [time[i].year for i in gaps] == list(range(1960, 2022, 4))
    steps = calendar.steps(time)
    assert set(steps) == {5, 6}
    assert (steps == 6).sum() == len(gaps)


@given(n_lat=st.integers(6, 60), levels=st.integers(1, 19), seed=st.integers(0, 50))
def test_basins_narrow_with_depth_and_never_vanish(n_lat: int, levels: int, seed: int) -> None:
    ocean = make_ocean((n_lat, 2 * n_lat), 1, levels, seed=seed)
    masks = ocean.masks
    assert masks.any((1, 2)).all()
    assert not masks[0].all()
    assert (masks[1:] <= masks[:-1]).all()


def test_coarse_and_fine_grids_are_of_one_ocean() -> None:
    fine, coarse = make_ocean((120, 240), 1), make_ocean((40, 80), 1)
    assert (fine.masks[0, 1::3, 1::3] == coarse.masks[0]).mean() > 0.97
    assert 0.6 < wet_masks(fine.lat, fine.lon, 1).mean() < 0.7


def test_stores_are_laid_out_as_published_or_as_asked(tmp_path: Path) -> None:
    ocean = write_om4(tmp_path / "a.zarr", SHAPE, 10, 2)
    published = xr.open_zarr(tmp_path / "a.zarr", decode_times=False)
    assert published["thetao_1"].encoding["chunks"] == (1, *SHAPE)
    assert not published["thetao_1"].encoding["compressors"]
    assert published["thetao_1"].dtype == np.float32
    assert published["time"].attrs["calendar"] == "julian"
    write_om4(tmp_path / "b.zarr", SHAPE, 10, 2, chunks=(4, 3, 12), zarr_format=3)
    other = xr.open_zarr(tmp_path / "b.zarr", decode_times=False)
    assert other["thetao_1"].encoding["chunks"] == (4, 3, 12)
    for name in ("thetao_1", "hfds"):
        assert np.array_equal(other[name], published[name], equal_nan=True)
        assert np.array_equal(published[name], ocean.values(channel(name), 0, 10), equal_nan=True)
