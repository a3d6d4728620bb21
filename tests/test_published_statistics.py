"""Published means and standard deviations, in all the forms in which they are published."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from ocean_emulators.datasets.config import Period, StatisticsConfig
from ocean_emulators.datasets.statistics.compute import compute_statistics
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.errors import UserError
from tests import tiny

TRAIN = Period(start="2000-01-01", end="2001-12-31")


def by_level(values: dict[str, float]) -> xr.Dataset:
    return xr.Dataset(values)


def by_depth(values: dict[str, float]) -> xr.Dataset:
    depth = {0: "10_0", 1: "70"}
    return xr.Dataset(
        {f"{n[:-2]}_lev_{depth[int(n[-1])]}" if n[-1].isdigit() else n: value for n, value in values.items()}
    )


def compact(values: dict[str, float]) -> xr.Dataset:
    stacked = {n[:-2]: ("lev", [values[f"{n[:-2]}_{k}"] for k in range(tiny.LEVELS)]) for n in values if n[-1] == "0"}
    return xr.Dataset({**{n: v for n, v in values.items() if not n[-1].isdigit()}, **stacked})


def published(
    store: PackedStore,
    tmp_path: Path,
    layout: Callable[[dict[str, float]], xr.Dataset] = by_level,
    **stds: float | None,
) -> StatisticsConfig:
    """Settings that name stores with a number for each channel: mean 100 + i, standard deviation 1 + i."""
    names = [c.name for c in store.channels]
    means = {name: 100.0 + i for i, name in enumerate(names)}
    deviations = {name: 1.0 + i for i, name in enumerate(names)} | stds
    paths = tmp_path / "OM4_means.zarr", tmp_path / "OM4_stds.zarr"
    for path, values in zip(paths, (means, deviations), strict=True):
        layout({n: v for n, v in values.items() if v is not None}).to_zarr(path, zarr_format=2)
    return StatisticsConfig(published_means=str(paths[0]), published_stds=str(paths[1]))


@pytest.mark.parametrize("layout", [by_level, by_depth, compact])
def test_they_replace_mean_and_std_alone(
    layout: Callable[[dict[str, float]], xr.Dataset], store: PackedStore, statistics: Statistics, tmp_path: Path
) -> None:
    imported = compute_statistics(store, TRAIN, published(store, tmp_path, layout))
    assert imported.mean.tolist() == [100.0 + i for i in range(len(store.channels))]
    assert imported.std.tolist() == [1.0 + i for i in range(len(store.channels))]
    assert np.array_equal(imported.change_std, statistics.change_std)
    assert np.array_equal(imported.climatology, statistics.climatology)
    assert imported.fingerprint != statistics.fingerprint


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), -1.0])
def test_what_nothing_can_be_divided_by_is_refused(value: float, store: PackedStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"published_stds: .*OM4_stds.zarr has {value:g} for so_1, .* mend it"):
        compute_statistics(store, TRAIN, published(store, tmp_path, so_1=value))


def test_what_is_not_published_is_named(store: PackedStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"published_stds: .*OM4_stds.zarr has nothing for so_1 \(it has hfds, so_0"):
        compute_statistics(store, TRAIN, published(store, tmp_path, so_1=None))


@pytest.mark.parametrize("layout", [by_level, by_depth, compact])
def test_a_damaged_store_is_told(
    layout: Callable[[dict[str, float]], xr.Dataset], store: PackedStore, tmp_path: Path
) -> None:
    settings = published(store, tmp_path, layout)
    for chunk in (tmp_path / "OM4_stds.zarr").glob("so*/0"):
        chunk.write_bytes(b"no chunk")
    with pytest.raises(UserError, match=r"published_stds: .*OM4_stds.zarr: so_0 can't be read \(.*; bring it back"):
        compute_statistics(store, TRAIN, settings)


def test_no_store_is_said_plainly(store: PackedStore, tmp_path: Path) -> None:
    nowhere = StatisticsConfig(published_means=str(tmp_path / "none"), published_stds=str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"data.statistics.published_means: .*none can't be opened as a Zarr store"):
        compute_statistics(store, TRAIN, nowhere)


def test_half_of_a_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="give both published_means and published_stds, or neither"):
        StatisticsConfig(published_means="OM4_means.zarr")
