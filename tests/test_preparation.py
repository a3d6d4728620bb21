"""Preparation: no value changes its place, and what can't be prepared is refused and leaves the old store."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from ocean_emulators.config import parse
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.preparation import prepare, select
from ocean_emulators.datasets.store import PackedStore, open_store
from ocean_emulators.errors import UserError
from ocean_emulators.ocean.grid import cell_area
from tests import tiny


def config(source: Path, **changes: Any) -> DataConfig:
    return parse(DataConfig, {**tiny.experiment(source)["data"], **changes}, "tiny")


def write(dataset: xr.Dataset, path: Path, **kwargs: Any) -> Path:
    dataset.to_zarr(path, zarr_format=2, **kwargs)
    return path


def prepared(dataset: xr.Dataset, tmp_path: Path, name: str, **changes: Any) -> PackedStore:
    prepare(config(write(dataset, tmp_path / f"{name}.zarr"), **changes), tmp_path / f"{name}.packed")
    return open_store(tmp_path / f"{name}.packed")


def encoded() -> xr.Dataset:
    """The tiny ocean with values that tell variable, level, time, row and column; all are exact in float32."""
    dataset = tiny.dataset()
    n = dataset.sizes["time"]
    t, y, x = np.arange(n)[:, None, None], np.arange(tiny.N_LAT)[None, :, None], np.arange(tiny.N_LON)
    for name, number in tiny.PREFIX.items():
        for level in range(tiny.LEVELS) if number < 4 else (None,):
            label = name if level is None else f"{name}_{level}"
            code = (((number * tiny.LEVELS + (level or 0)) * n + t) * tiny.N_LAT + y) * tiny.N_LON + x
            wet = dataset[f"mask_{level or 0}"].values
            dataset[label] = (("time", "y", "x"), np.where(wet, code, np.nan).astype("f4"))
    return dataset


def test_every_cell_is_where_the_store_says(tmp_path: Path) -> None:
    dataset = encoded()
    store = prepared(dataset, tmp_path, "encoded", prognostic=["so", "zos", "thetao"], forcing=["hfds", "tauuo"])
    names = ["so_0", "so_1", "zos", "thetao_0", "thetao_1", "hfds", "tauuo"]
    assert [c.name for c in store.channels] == names
    masks = [dataset[f"mask_{1 if name.endswith('_1') else 0}"].values for name in names]
    expected = np.concatenate([dataset[n].values[:, wet] for n, wet in zip(names, masks, strict=True)], axis=1)
    assert np.array_equal(store.rows(0, len(store.time)), expected)
    assert np.array_equal(store.rows(17, 19), expected[17:19])
    assert np.array_equal(store.mask, np.stack(masks))
    assert np.array_equal(store.time, dataset["time"].values)


def test_a_missing_value_is_named_and_the_old_store_stays(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "ocean.packed"
    prepare(config(source), path)
    before = open_store(path).fingerprint
    dataset = tiny.dataset()
    y, x = np.argwhere(dataset["mask_1"].values)[5]
    dataset["so_1"][100, y, x] = np.nan
    bad = write(dataset, tmp_path / "bad.zarr")
    with pytest.raises(UserError, match=rf"so_1 has no value at {dataset['time'].values[100]} in 1 cell"):
        prepare(config(bad), path)
    assert open_store(path).fingerprint == before


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")
def test_coarse_cells_are_means_over_wet_area(tmp_path: Path) -> None:
    dataset = tiny.dataset()
    dataset["zos"] = dataset["zos"].where(dataset["zos"].isnull(), 4.25)
    coarse = select(config(write(dataset, tmp_path / "s.zarr"), coarsen=2)).load()
    area = cell_area(dataset["y"].values, dataset["x"].values)
    wet = dataset["mask_1"].values
    values = np.nan_to_num(dataset["thetao_1"].values[3].astype("f8"))
    for i in range(tiny.N_LAT // 2):
        for j in range(tiny.N_LON // 2):
            block = slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2)
            weight = (area * wet)[block]
            is_wet = weight.sum() >= 0.5 * area[block].sum()
            assert bool(coarse["mask_1"][i, j]) == is_wet
            if is_wet:
                mean = (weight * values[block]).sum() / weight.sum()
                assert float(coarse["thetao_1"][3, i, j]) == pytest.approx(mean, rel=1e-5)
            else:
                assert np.isnan(coarse["thetao_1"][3, i, j])
    assert float(coarse["areacello"].sum()) == pytest.approx(area.sum())
    constant = coarse["zos"].values[:, coarse["mask_0"].values]
    assert np.allclose(constant, 4.25)


def test_coarsening_is_silent(source: Path) -> None:
    select(config(source, coarsen=2))["zos"].isel(time=0).load()


def test_a_coarsened_ocean_can_be_prepared(source: Path, tmp_path: Path) -> None:
    prepare(config(source, coarsen=4), tmp_path / "coarse.packed")
    assert open_store(tmp_path / "coarse.packed").grid.shape == (tiny.N_LAT // 4, tiny.N_LON // 4)


def test_coarsening_must_divide_the_grid(source: Path) -> None:
    with pytest.raises(UserError, match=r"data.coarsen: 3 does not divide .*\(16, 32\)"):
        select(config(source, coarsen=3))


def test_anomalies_know_the_training_period_alone(source: Path, tmp_path: Path) -> None:
    changes = {"forcing": ["hfds", "hfds_anomalies"]}
    anomaly = select(config(source, **changes))["hfds_anomalies"].load()
    hfds = select(config(source, **changes))["hfds"].values
    season = hfds[:146].reshape(2, 73, *hfds.shape[1:]).mean(0)
    assert np.allclose(anomaly.values[:146], hfds[:146] - np.tile(season, (2, 1, 1)), atol=1e-4, equal_nan=True)
    dataset = tiny.dataset()
    dataset["hfds"][146:] += 7
    later = select(config(write(dataset, tmp_path / "later.zarr"), **changes))["hfds_anomalies"].load()
    assert np.array_equal(anomaly.values[:146], later.values[:146], equal_nan=True)
    wet = dataset["mask_0"].values
    assert np.allclose((later - anomaly).values[146:, wet], 7, atol=1e-4)


def test_the_fingerprint_tells_content_and_nothing_else(store: PackedStore, tmp_path: Path) -> None:
    dataset = tiny.dataset()
    rechunked = dataset.chunk({"time": 100, "y": 9, "x": 32})
    assert prepared(rechunked, tmp_path, "rechunked").fingerprint == store.fingerprint
    y, x = np.argwhere(dataset["mask_1"].values)[5]
    dataset["uo_1"][40, y, x] += 1e-3
    assert prepared(dataset, tmp_path, "changed").fingerprint != store.fingerprint
    moved = tiny.dataset().assign_coords(x=dataset["x"] + 1)
    assert prepared(moved, tmp_path, "moved").fingerprint != store.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": [0, 2]}, r"data.levels: level 2 asked for, but .* has levels 0 to 1"),
        (
            {
                "periods": {
                    "train": {"start": "2000-01-01", "end": "2000-12-31"},
                    "validation": {"start": "2001-01-01", "end": "2001-12-31"},
                    "test": {"start": "2009-01-01", "end": "2009-12-31"},
                }
            },
            r"data.periods.test: 2009-01-01 to 2009-12-31 holds none of the times of",
        ),
    ],
    ids=["level", "period"],
)
def test_what_the_source_lacks_is_refused(source: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        select(config(source, **changes))


def test_a_missing_variable_and_a_hole_in_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no variable 'zos'"):
        select(config(write(tiny.dataset().drop_vars("zos"), tmp_path / "no_zos.zarr")))
    holed = tiny.dataset().isel(time=[i for i in range(219) if i != 60])
    with pytest.raises(UserError, match=r"the time step is 5 days, but .* is followed by"):
        select(config(write(holed, tmp_path / "holed.zarr")))
