"""What runs are called by what they change."""

import subprocess
from pathlib import Path

import pytest

from ocean_emulators.tracking.changes import changes_of_params, run_name, short_changes
from ocean_emulators.tracking.provenance import Provenance

COMMITTED = {"name": "sea", "model": {"widths": [8, 16], "type": "samudra"}, "train": {"seed": 1, "initial": None}}


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project below the root of its repository, with params that were edited since they were committed."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "params.yaml").write_text(
        "name: sea\nmodel: {widths: [8, 16], type: samudra}\ntrain: {seed: 1, initial: null}\n"
    )
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "Sea"]):
        subprocess.run(
            ["git", "-c", "user.name=T", "-c", "user.email=t@example.org", *command], cwd=tmp_path, check=True
        )
    (folder / "params.yaml").write_text("name: [")
    return folder


def test_what_differs_from_the_last_commit_is_told(committed: Path) -> None:
    assert changes_of_params(COMMITTED) == "none"
    other = COMMITTED | {
        "model": {"widths": (8, 24), "type": "samudra"},
        "train": {"seed": 1, "initial": {"path": "a, b=c"}},
    }
    assert changes_of_params(other) == 'model.widths=[8, 24], train.initial={path: "a, b=c"}'
    assert Provenance(other, "data").tags()["changed"] == changes_of_params(other)


def test_without_a_commit_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert changes_of_params(COMMITTED) == "none"


@pytest.mark.parametrize(
    ("changed", "short"),
    [
        ("train.seed=2", "seed=2"),
        ("model.widths=[24, 32], train.seed=2", "widths=[24,32] seed=2"),
        ("periods.train.start=2000, periods.test.start=2001", "train.start=2000 test.start=2001"),
        ("a.x=1, b.x=2, x=3", "a.x=1 b.x=2 x=3"),
        ("data.source=data/a/very/long/path/to/a/store.zarr", "source=data/a/very/long/path/t…"),
        ("a=1, b=2, c=3, d=4, e=5", "a=1 b=2 c=3 +2"),
    ],
)  # fmt: skip
def test_changes_are_told_in_few_letters_that_tell_them_apart(changed: str, short: str) -> None:
    assert short_changes(changed) == short


def test_a_name_says_what_differs_and_which_experiment_it_is() -> None:
    assert run_name("sea", "0123456789", {}) == "sea-01234567"
    assert run_name("sea", "0123456789", {"changed": "none", "dvc.experiment": "none"}) == "sea-01234567"
    assert run_name("sea", "0123456789", {"changed": "train.seed=2"}) == "seed=2 · sea-01234567"
    assert run_name("sea", "0123", {"changed": "train.seed=2", "dvc.experiment": "sweep-1-0"}) == "seed=2 · sweep-1-0"


def test_the_runs_of_a_sweep_have_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, sweep in {"sweep-1126-091500-3": "sweep-1126-091500", "widths-1": "widths", "brave-moth": None}.items():
        monkeypatch.setenv("DVC_EXP_NAME", name)
        assert Provenance({}, "data").tags().get("sweep") == sweep
