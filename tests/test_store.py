"""The packed store says what it holds."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec

from ocean_emulators.datasets.config import Period
from ocean_emulators.datasets.store.packed_store import PackedStore, open_store
from ocean_emulators.datasets.store.shards import Shards
from ocean_emulators.errors import UserError
from tests import tiny


def test_it_knows_its_channels_grid_and_times(store: PackedStore) -> None:
    dataset = tiny.dataset()
    assert [c.name for c in store.prognostic][-1] == "zos"
    assert [c.name for c in store.forcing] == ["tauuo", "tauvo", "hfds"]
    assert np.array_equal(store.grid.lat, dataset["y"].values)
    assert np.array_equal(store.grid.thickness, dataset["dz"].values)
    assert np.array_equal(store.time, dataset["time"].values)
    assert store.step_days == 5
    assert store.cells_per_channel.sum() == store.rows(0, 1).shape[1]
    assert len(store.fingerprint) == 64


def test_periods_are_ranges_of_times(store: PackedStore) -> None:
    assert store.indices(Period(start="2001-01-01", end="2001-12-31"), "test") == range(73, 146)
    with pytest.raises(UserError, match=r"data.periods.test: 2009-01-01 to 2009-12-31 holds none"):
        store.indices(Period(start="2009-01-01", end="2009-12-31"), "test")


def test_it_is_a_handful_of_files(store: PackedStore) -> None:
    assert sum(path.is_file() for path in store.path.rglob("*")) < 30


def test_no_store_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing here; `dvc repro prepare` makes it"):
        open_store(tmp_path / "none")


def test_zarr_reads_the_same_rows(store: PackedStore) -> None:
    rows = zarr.open_group(store.path, mode="r")["rows"]
    assert np.array_equal(rows[3:9], store.rows(3, 9))  # type: ignore[index]


def test_rows_of_several_files_are_joined(store: PackedStore, tmp_path: Path) -> None:
    """The same rows, ten times to a file."""
    group = zarr.open_group(tmp_path / "s.zarr", mode="w")
    n_times, n_cells = len(store.time), int(store.mask.sum())
    array = group.create_array(
        "rows",
        shape=(n_times, n_cells),
        chunks=(1, n_cells),
        shards=(10, n_cells),
        dtype="float32",
        compressors=Crc32cCodec(),
        fill_value="NaN",
    )
    array[:] = store.rows(0, n_times)
    shards = Shards(tmp_path / "s.zarr" / "rows", n_times, n_cells, 10, np.dtype("f4"))
    for start, stop in ((0, 10), (3, 5), (8, 12), (5, 41), (n_times - 1, n_times), (0, n_times)):
        assert np.array_equal(np.concatenate(shards.read(start, stop)), store.rows(start, stop))


def test_a_store_that_was_not_finished_is_not_opened(store: PackedStore, tmp_path: Path) -> None:
    copy = tmp_path / "ocean.zarr"
    shutil.copytree(store.path, copy)
    (copy / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"not whole: it has no manifest\.json"):
        open_store(copy)
