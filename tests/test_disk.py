"""What the operating system refuses while data are prepared: one line with the way out, nothing half left, and it goes on."""

import os
import resource
import subprocess
from pathlib import Path

import pytest
import torch

from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.statistics.stored import Statistics, read_statistics
from ocean_emulators.datasets.statistics.writing import write_statistics
from ocean_emulators.errors import UserError
from ocean_emulators.files import PARTIAL, replacing, replacing_folder
from ocean_emulators.tensors import save_tensors
from tests.disks import FULL, LARGE, READ_ONLY, limit, small_disk
from tests.prepared import content, small

TIMES_PER_FILE = 60


@pytest.fixture(scope="module")
def data(source: Path) -> DataConfig:
    return small(source)


@pytest.fixture(scope="module")
def whole(data: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What is made where nothing is refused."""
    folder = tmp_path_factory.mktemp("whole") / "prepared"
    prepare(data, folder, times_per_file=TIMES_PER_FILE)
    return content(folder)


def half_left(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.rglob(f"*{PARTIAL}*")]


def refused(error: pytest.ExceptionInfo[UserError], message: str) -> None:
    text = str(error.value)
    assert text.endswith(message.replace("\\", "")), text
    assert "\n" not in text


@pytest.mark.parametrize("size", [0, 1, 500, 4_000, 6_000, 20_000, 60_000, 110_000])
def test_files_that_may_not_be_so_large(
    size: int, data: DataConfig, whole: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever a file of the preparation reaches that size: its state, the annual cycle, rows, metadata."""
    scratch, folder = tmp_path / "scratch", tmp_path / "prepared"
    with limit(resource.RLIMIT_FSIZE, size), pytest.raises(UserError) as error:
        prepare(data, folder, scratch, times_per_file=TIMES_PER_FILE)
    refused(error, LARGE)
    assert not folder.exists()
    assert not half_left(tmp_path)
    prepare(data, folder, scratch, times_per_file=TIMES_PER_FILE)
    assert content(folder) == whole


@pytest.mark.parametrize(
    "options", [f"size={pages * 4}k" for pages in (1, 2, 8, 24, 60, 90, 120, 150, 160)] + ["nr_inodes=9"]
)
@pytest.mark.parametrize("what", ["scratch", "result"])
def test_a_disk_that_gets_full(
    what: str, options: str, data: DataConfig, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Of unfinished work, or of the result, which is then brought from another file system."""
    place = tmp_path / "small"
    scratch, folder = (
        (place, tmp_path / "prepared") if what == "scratch" else (tmp_path / "scratch", place / "prepared")
    )
    with small_disk(place, options):
        with pytest.raises(UserError) as error:
            prepare(data, folder, scratch, times_per_file=TIMES_PER_FILE)
        refused(error, FULL)
        assert not folder.exists()
        assert not half_left(tmp_path)
        subprocess.run(["mount", "-o", "remount,size=8m,nr_inodes=10k", place], check=True)
        prepare(data, folder, scratch, times_per_file=TIMES_PER_FILE)
        assert content(folder) == whole


@pytest.mark.parametrize("what", ["scratch", "result"])
def test_a_disk_that_may_not_be_written_to(what: str, data: DataConfig, tmp_path: Path) -> None:
    place = tmp_path / "small"
    scratch, folder = (
        (place, tmp_path / "prepared") if what == "scratch" else (tmp_path / "scratch", place / "prepared")
    )
    with small_disk(place, "ro"):
        with pytest.raises(UserError) as error:
            prepare(data, folder, scratch, times_per_file=TIMES_PER_FILE)
        refused(error, READ_ONLY)


def test_a_full_disk_keeps_the_old_data(data: DataConfig, whole: dict[str, bytes], tmp_path: Path) -> None:
    place = tmp_path / "small"
    with small_disk(place, "size=1800k"):
        prepare(data, place / "prepared", tmp_path / "scratch", times_per_file=TIMES_PER_FILE)
        other = data.replace(anomaly_period="all")
        with pytest.raises(UserError) as error:
            prepare(other, place / "prepared", tmp_path / "scratch", times_per_file=TIMES_PER_FILE)
        refused(error, FULL)
        assert content(place / "prepared") == whole


@pytest.mark.parametrize("more", range(0, 12, 2))
def test_too_few_open_files_are_told_or_enough(
    more: int, data: DataConfig, whole: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.close(free := os.dup(0))
    try:
        with limit(resource.RLIMIT_NOFILE, free + more):
            prepare(data, tmp_path / "prepared", tmp_path / "scratch", times_per_file=TIMES_PER_FILE)
    except UserError as error:
        assert "have the limit on open files raised (`ulimit -n`), and run it again" in str(error)
        assert "\n" not in str(error)
        assert not half_left(tmp_path)
        prepare(data, tmp_path / "prepared", tmp_path / "scratch", times_per_file=TIMES_PER_FILE)
    assert content(tmp_path / "prepared") == whole


@pytest.mark.parametrize("size", [0, 300, 1_000, 5_000, 200_000])
def test_statistics_that_can_not_be_written(size: int, statistics: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "stats" / "x1.zarr"
    write_statistics(statistics, path)
    before = content(tmp_path)
    with limit(resource.RLIMIT_FSIZE, size), pytest.raises(UserError) as error:
        write_statistics(statistics, path)
    refused(error, LARGE)
    assert content(tmp_path) == before
    assert read_statistics(path).names == statistics.names


@pytest.mark.parametrize("size", [4, 8, 40, 100, 400])
def test_statistics_on_a_disk_that_gets_full(size: int, statistics: Statistics, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", f"size={size}k"):
        with pytest.raises(UserError) as error:
            write_statistics(statistics, tmp_path / "small" / "stats" / "x1.zarr")
        refused(error, FULL)
        assert not content(tmp_path)


@pytest.mark.parametrize("place", ["file/below", "file"])
def test_a_file_in_the_place_of_a_folder_is_told(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="move away what is in the place of a folder"),
        replacing(tmp_path / "file/below"),
    ):
        pass
    with pytest.raises(UserError), replacing_folder(tmp_path / place / "folder"):
        pass


@pytest.mark.parametrize("limited", [0, 100, 92_000, 100_000, 1_000_000])
def test_tensors_that_may_not_be_so_large(limited: int, tmp_path: Path) -> None:
    """Whatever part of the file torch is at: it then complains of a second fault, which the first has left."""
    content = {f"part{k}": torch.randn(20_000) for k in range(20)}
    with limit(resource.RLIMIT_FSIZE, limited), pytest.raises(UserError) as error:
        save_tensors(content, tmp_path / "state.pt")
    refused(error, LARGE)
    assert not list(tmp_path.iterdir())
