"""What was read of one period does not change with another."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from ocean_emulators.config.base import parse
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.statistics.compute import compute_statistics
from ocean_emulators.datasets.statistics.writing import write_statistics
from ocean_emulators.datasets.store.packed_store import open_store, store_path
from ocean_emulators.datasets.store.periods import PERIODS, period_path
from tests import tiny

SETTINGS: dict[str, Any] = {"coarsen": [1, 2], "forcing": ["tauuo", "tauvo", "hfds", "hfds_anomalies"]}


def made_of(source: Path, root: Path, **changes: Any) -> dict[str, bytes]:
    """Every file that stages read which know the training and the validation period alone, by name."""
    data = parse(DataConfig, {**tiny.experiment(source)["data"], **SETTINGS, **changes}, "tiny")
    prepare(data, root / "prepared")
    for grid in data.grids:
        store = open_store(store_path(root / "prepared", grid))
        write_statistics(compute_statistics(store, data.periods.train), store_path(root / "stats", grid))
    files = [*(root / "stats").rglob("*"), *(period_path(root / "prepared", name) for name in PERIODS)]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files if path.is_file()}


@pytest.fixture(scope="module")
def before(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return made_of(source, tmp_path_factory.mktemp("before"))


def different(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name, content in before.items() if after[name] != content}


def periods(**changes: tuple[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = tiny.experiment()["data"]["periods"]
    return {**tree, **{name: {"start": start, "end": end} for name, (start, end) in changes.items()}}


TEST, VALIDATION = (f"prepared/periods/{name}.json" for name in ("test", "validation"))


@pytest.mark.parametrize(
    ("changed", "files"),
    [
        ({"test": ("2002-08-01", "2002-12-31")}, {TEST}),
        ({"test": ("2002-07-01", "2002-09-30")}, {TEST}),
        ({"test": ("2002-03-01", "2002-06-30"), "validation": ("2002-07-01", "2002-12-31")}, {TEST, VALIDATION}),
        ({"validation": ("2002-02-01", "2002-06-30")}, {VALIDATION}),
    ],
    ids=["later start", "earlier end", "exchanged", "validation"],
)
def test_a_change_of_one_period_changes_its_file_alone(
    changed: dict[str, tuple[str, str]], files: set[str], source: Path, before: dict[str, bytes], tmp_path: Path
) -> None:
    assert different(before, made_of(source, tmp_path, periods=periods(**changed))) == files


def test_a_test_period_in_the_past_moves_all_rows_and_changes_nothing_else(tmp_path: Path) -> None:
    source = tiny.write(tmp_path / "s.zarr", years=4)
    later = {"train": ("2001-01-01", "2002-12-31"), "validation": ("2003-01-01", "2003-06-30")}
    after, first = (
        made_of(source, tmp_path / name, periods=periods(**later, test=test))
        for name, test in (("after", ("2003-07-01", "2003-12-31")), ("before", ("2000-01-01", "2000-12-31")))
    )
    assert different(after, first) == {TEST}


def one_value(dataset: xr.Dataset) -> None:
    y, x = np.argwhere(dataset["mask_1"].values)[5]
    dataset["uo_1"][200, y, x] += 1e-3


def one_mask(dataset: xr.Dataset) -> None:
    y, x = np.argwhere(dataset["mask_1"].values)[5]
    for name in ("mask_1", "thetao_1", "so_1", "uo_1", "vo_1"):
        dataset[name][..., y, x] = False if name == "mask_1" else np.nan


@pytest.mark.parametrize(
    ("change", "files"), [(one_value, {TEST}), (one_mask, None)], ids=["a value of the test period", "a mask"]
)
def test_a_change_of_the_source_changes_what_holds_it(
    change: Callable[[xr.Dataset], None], files: set[str] | None, before: dict[str, bytes], tmp_path: Path
) -> None:
    dataset = tiny.dataset()
    change(dataset)
    dataset.to_zarr(tmp_path / "s.zarr", zarr_format=2)
    changed = different(before, made_of(tmp_path / "s.zarr", tmp_path))
    assert changed == files if files else changed > {f"prepared/periods/{name}.json" for name in PERIODS}


def test_half_the_size_is_other_content(source: Path, before: dict[str, bytes], tmp_path: Path) -> None:
    half = made_of(source, tmp_path / "a", storage="float16")
    assert different(before, half) > {f"prepared/periods/{name}.json" for name in PERIODS}
    shorter = made_of(source, tmp_path / "b", storage="float16", periods=periods(test=("2002-08-01", "2002-12-31")))
    assert different(half, shorter) == {TEST}


def test_each_period_has_a_digest_on_each_grid(source: Path, tmp_path: Path) -> None:
    made_of(source, tmp_path)
    digests = [json.loads(period_path(tmp_path / "prepared", name).read_text()) for name in PERIODS]
    assert all(list(grids) == ["x1", "x2"] for grids in digests)
    assert len({value for grids in digests for value in grids.values()}) == 6
