"""Unfinished preparations: whatever happens to the work folder, they end with the same bytes, and tell what they do again."""

import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from ocean_emulators.datasets.preparation.job import PreparationJob, prepare
from ocean_emulators.datasets.preparation.opening import OpenSource
from ocean_emulators.datasets.preparation.work import WorkFolder
from ocean_emulators.parallel import Resources
from tests import damage
from tests.prepared import content, small

TIMES_PER_FILE, N_TIMES, DONE = 20, 219, 5


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "prepared"
    prepare(small(source), folder, times_per_file=TIMES_PER_FILE)
    return content(folder)


@pytest.fixture(scope="module")
def left(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scratch folder of a preparation that was interrupted after some blocks."""
    scratch = tmp_path_factory.mktemp("left")

    class Interrupted(Exception):
        pass

    def interrupted(job: PreparationJob, reader: object, block: int) -> int:
        if block == DONE:
            raise Interrupted
        return original(job, reader, block)  # type: ignore[arg-type]

    original, PreparationJob.prepare_block = PreparationJob.prepare_block, interrupted  # type: ignore[assignment, method-assign]
    try:
        prepare(small(source), scratch / "prepared", scratch, code="code", times_per_file=TIMES_PER_FILE)
    except Interrupted:
        pass
    finally:
        PreparationJob.prepare_block = original  # type: ignore[method-assign]
    return scratch


@pytest.fixture
def scratch(left: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged and resumed."""
    return Path(shutil.copytree(left, tmp_path / "scratch"))


def resume(source: Path, scratch: Path, code: str = "code") -> dict[str, bytes]:
    """What the preparation makes in the end; its own work folder is then removed, and no other."""
    begun, prepared = list(scratch.glob("prepare-*")), scratch.with_name("prepared")
    prepare(small(source), prepared, scratch, code=code, times_per_file=TIMES_PER_FILE)
    assert list(scratch.glob("prepare-*")) == (begun if code != "code" else [])
    return content(prepared)


DAMAGES = {
    "gone": damage.remove,
    "empty": damage.cut(0),
    "cut": damage.cut(0.6),
    "cut by a byte": damage.cut(1),
    "first bit": damage.flip(0, 7),
    "bit in the middle": damage.flip(0.5, 3),
    "bit near the end": damage.flip(0.97, 5),
}
FILES = [
    "begun.json",
    "block-00000.json",
    "block-00004.json",
    "stores/x1.zarr/rows/c/1/0",
    "stores/x2.zarr/rows/c/4/0",
    "hfds_anomalies/c/0/0",
]


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_told_and_made_again(
    file: str,
    how: str,
    source: Path,
    scratch: Path,
    whole: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (path,) = scratch.glob(f"prepare-*/{file}")
    DAMAGES[how](path)
    assert resume(source, scratch) == whole
    output = capsys.readouterr().out
    assert how == "gone" or f"warning: {path} is damaged; it is made again" in output
    match = re.search(r"resuming after (\d+) of 219 times", output)
    resumed = int(match[1]) if match else 0
    lost = {"begun.json": DONE, "hfds_anomalies/c/0/0": 0}.get(file, 1)
    assert resumed == (DONE - lost) * TIMES_PER_FILE, "and nothing else is"


def test_the_list_has_every_kind_of_file(left: Path) -> None:
    (work,) = left.glob("prepare-*")
    kinds = {re.sub(r"\d+", "#", path.relative_to(work).as_posix()) for path in work.rglob("*") if path.is_file()}
    assert kinds == {re.sub(r"\d+", "#", file) for file in FILES}


def test_all_of_it_may_be_damaged(source: Path, scratch: Path, whole: dict[str, bytes]) -> None:
    for path in scratch.glob("prepare-*/**/*"):
        if path.is_file():
            path.write_bytes(b"")
    assert resume(source, scratch) == whole


def test_what_a_killed_process_was_writing_is_not_kept(source: Path, scratch: Path, whole: dict[str, bytes]) -> None:
    (work,) = scratch.glob("prepare-*")
    for name in ("stores/x1.zarr/rows/c/1/0.17.partial", "stores/x1.zarr/zarr.json", "stores/x1.zarr/mask/c/0/0/0"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("half")
    (work / "stores" / "periods").mkdir()
    (work / "stores" / "periods" / "train.json.17.partial").write_text("half")
    assert resume(source, scratch) == whole


@pytest.mark.parametrize(("code", "resumed"), [("code", True), ("other code", False)])
def test_it_is_found_again_by_what_names_the_code_alone(
    code: str,
    resumed: bool,
    source: Path,
    scratch: Path,
    whole: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not by place, resources, time, or whatever else of the package was edited."""
    assert resume(source, scratch, code) == whole
    assert ("resuming after 100 of 219 times" in capsys.readouterr().out) == resumed


def test_resources_do_not_name_it(source: Path, scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resources = Resources(memory_gib=32, workers=2)
    prepare(small(source), scratch.with_name("prepared"), scratch, resources, "code", TIMES_PER_FILE)
    assert "resuming after 100 of 219 times" in capsys.readouterr().out


def test_what_is_kept_is_made_once(tmp_path: Path) -> None:
    work, made = WorkFolder(tmp_path), []

    def make() -> np.ndarray:
        made.append(1)
        return np.arange(24, dtype="f4").reshape(2, 3, 4)

    for _ in range(2):
        assert np.array_equal(work.kept("a", (2, 3, 4), make), np.arange(24).reshape(2, 3, 4))
    assert len(made) == 1


def test_a_job_can_be_sent(source: Path, tmp_path: Path) -> None:
    open_source = OpenSource.of(small(source))
    job, reader = PreparationJob.begin(open_source, WorkFolder(tmp_path / "work"), TIMES_PER_FILE)
    sent = pickle.loads(pickle.dumps(job))
    assert sent.prepare_block(reader, 3) == TIMES_PER_FILE
    assert job.damaged_files(reader, 3) == []
    assert [job.n_times, len(job.blocks)] == [N_TIMES, 11]
