"""The packed store says what it holds."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec

from ocean_emulators.datasets.config import Period
from ocean_emulators.datasets.store.encoding import Scaling, Storage
from ocean_emulators.datasets.store.packed_store import PackedStore, open_store
from ocean_emulators.datasets.store.shards import Shards
from ocean_emulators.datasets.store.writing import describe_rows, write_file
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


@pytest.mark.parametrize("pipeline", ["zarr.core.codec_pipeline.BatchedCodecPipeline", "zarrs.ZarrsCodecPipeline"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_zarr_reads_the_same_bytes(pipeline: str, data: st.DataObject) -> None:
    """Any bits, in files that are full or not, read whole, by parts, by single times and by any list of times."""
    storage: Storage = data.draw(st.sampled_from(["float32", "float16", "bfloat16"]))
    n_times = data.draw(st.integers(1, 20))
    in_file = data.draw(st.integers(1, n_times))
    times = st.integers(0, n_times - 1)
    start, stop = sorted([data.draw(times), data.draw(times)])
    chosen = data.draw(st.lists(times, min_size=1, max_size=8))
    with tempfile.TemporaryDirectory() as folder, zarr.config.set({"codec_pipeline.path": pipeline}):
        path = Path(folder) / "s.zarr"
        written_as = Scaling(storage, np.zeros(1, "f4"), np.ones(1, "f4")).written
        shards = Shards(path / "rows", n_times, 25, in_file, written_as)
        zarr.create_group(path)
        describe_rows(path, shards, ("time", "cell"))
        bits = np.random.default_rng(n_times).integers(0, 256, (n_times, shards.row_bytes - 4), "u1")
        written = bits.view(shards.dtype)
        for number, first in enumerate(range(0, n_times, in_file)):
            write_file(shards, number, written[first : first + in_file])
        rows: Any = zarr.open_group(path, mode="r")["rows"]
        for read, expected in {
            "whole": (rows[:], written),
            "part": (rows[start : stop + 1], written[start : stop + 1]),
            "single": (rows[stop], written[stop]),
            "list": (rows.oindex[chosen], written[chosen]),
            "ours": (np.concatenate(shards.read(start, stop + 1)), written[start : stop + 1]),
        }.values():
            assert np.asarray(read).tobytes() == expected.tobytes()


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
