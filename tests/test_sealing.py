"""What is sealed is read as it was written, or refused: whichever file is gone, cut, or has one bit flipped."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from ocean_emulators.datasets.statistics.stored import Statistics, read_statistics
from ocean_emulators.datasets.statistics.writing import write_statistics
from ocean_emulators.datasets.store.packed_store import PackedStore, open_store
from ocean_emulators.errors import UserError
from ocean_emulators.sealing import MANIFEST, open_sealed, require_sealed, seal, sealing, write_sealed
from tests import damage


def of_store(path: Path) -> list[Any]:
    store = open_store(path)
    return [
        store.rows(0, len(store.time)),
        store.mask,
        store.time,
        store.grid.area,
        store.row_hashes,
        store.fingerprint,
    ]


def of_statistics(path: Path) -> list[Any]:
    read = read_statistics(path)
    rows = [read.climatology[number, :] for number in range(73)]
    return [read.mean, read.std, read.change_std, rows, list(read.names), read.fingerprint]


def of_sums(path: Path) -> list[Any]:
    dataset = open_sealed(path, "evaluate").load()
    return [dataset[name].values for name in map(str, dataset.variables)]


@pytest.fixture(scope="module")
def sealed(
    store: PackedStore, statistics: Statistics, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Callable[[Path], list[Any]], str]]:
    """Each sealed store with what reads all of it, and the stage that makes it."""
    folder = tmp_path_factory.mktemp("sealed")
    write_statistics(statistics, folder / "statistics")
    sums = xr.Dataset(
        {"error": (("start", "lead"), np.arange(12.0).reshape(3, 4)), "weight": ("region", [1.0, 0.0])},
        coords={"region": ["global", "tropics"]},
        attrs={"days": 5},
    )
    write_sealed(sums, folder / "sums", zarr_format=2)
    return {
        "prepared": (store.path, of_store, "prepare"),
        "statistics": (folder / "statistics", of_statistics, "stats"),
        "sums": (folder / "sums", of_sums, "evaluate"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prepared", "statistics", "sums"])
def test_every_damage_of_every_file_is_refused(name: str, sealed: Any, tmp_path: Path) -> None:
    path, read, stage = sealed[name]
    copy, found = tmp_path / "copy.zarr", 0
    shutil.copytree(path, copy)
    for file, harm in damage.all_of(path, np.random.default_rng(0)):
        harm(copy / file)
        with pytest.raises(UserError) as caught:
            read(copy)
        found, message = found + 1, str(caught.value)
        assert "\n" not in message
        assert f"`dvc repro --force {stage}`" in message
        assert "`dvc checkout --force`" in message
        assert str(copy if file.name == MANIFEST else copy / file) in message
        shutil.copy(path / file, copy / file)
    assert found > 50
    read(copy)


@given(st.data())
def test_no_bit_of_a_sealed_folder_can_be_changed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("folder")
    names = st.sampled_from(["a", "b/c", "b/d/e"])
    files = data.draw(st.dictionaries(names, st.binary(min_size=1, max_size=30), min_size=1))
    about = data.draw(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2))
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    seal(folder, about)
    assert require_sealed(folder, "train") == about
    path = folder / data.draw(st.sampled_from([*files, MANIFEST]))
    damage.flip(data.draw(st.floats(0, 1, exclude_max=True)), data.draw(st.integers(0, 7)))(path)
    with pytest.raises(UserError, match=rf"{path.name}: damaged: .*`dvc repro --force train`"):
        require_sealed(folder, "train")


def test_what_checks_itself_is_not_read_to_open_a_folder(tmp_path: Path) -> None:
    for name in ("small", "rows/c/0/0"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"abc")
    seal(tmp_path, checksummed=["rows/c/*"])
    (tmp_path / "rows/c/0/0").write_bytes(b"abd")
    require_sealed(tmp_path, "prepare")
    (tmp_path / "rows/c/0/0").write_bytes(b"abcd")
    with pytest.raises(UserError, match="not what was written"):
        require_sealed(tmp_path, "prepare")


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    first = xr.Dataset({"a": ("x", [1.0])})
    write_sealed(first, tmp_path / "s.zarr")
    with pytest.raises(RuntimeError), sealing(tmp_path / "s.zarr") as building:
        first.to_zarr(building, zarr_format=2, consolidated=False)
        raise RuntimeError
    assert open_sealed(tmp_path / "s.zarr", "evaluate").identical(first)
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


def test_nothing_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none: nothing here; `dvc repro evaluate` makes it"):
        require_sealed(tmp_path / "none", "evaluate")
