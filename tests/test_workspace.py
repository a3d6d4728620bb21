"""Where things are, and what working state belongs to."""

import shutil
from pathlib import Path

import pytest

from ocean_emulators.experiment import Experiment
from ocean_emulators.workspace import PACKAGE, Workspace, sources_digest
from tests.imports import ROOT


@pytest.fixture
def workspace(project: Path) -> Workspace:
    shutil.copy(ROOT / "dvc.yaml", project)
    return Workspace.here()


def test_working_state_belongs_to_what_the_result_depends_on(workspace: Workspace, experiment: Experiment) -> None:
    def folder(changed: Experiment, *data: str) -> Path:
        return workspace.scratch_of("train", changed.training.dump(), *data)

    first = folder(experiment, "data")
    assert first.parent == workspace.home / ".scratch"
    assert folder(experiment.replace(name="other", evaluation={"lead_days": 10}), "data") == first
    test = {"start": "2002-08-01", "end": "2002-12-31"}
    periods = experiment.data.periods.dump()
    other_test = experiment.replace(data={**experiment.data.dump(), "periods": {**periods, "test": test}})
    assert folder(other_test, "data") == first
    assert folder(experiment.replace(train={**experiment.train.dump(), "seed": 9}), "data") != first
    assert folder(experiment, "other data") != first


def test_only_an_edit_of_the_code_that_a_stage_runs_makes_its_working_state_another(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr("ocean_emulators.workspace.PACKAGE", copy)
    before = {stage: workspace.code_digest(stage) for stage in ("prepare", "stats", "train", "evaluate", "compare")}

    def changed_by_an_edit_of(path: str) -> list[str]:
        file = copy / path
        text = file.read_text()
        file.write_text(text + "# a remark\n")
        changed = [stage for stage, digest in before.items() if workspace.code_digest(stage) != digest]
        file.write_text(text)
        return changed

    assert changed_by_an_edit_of("cli/report.py") == []
    assert changed_by_an_edit_of("tracking/mlflow.py") == []
    assert changed_by_an_edit_of("datasets/source/location.py") == ["prepare"]
    assert changed_by_an_edit_of("models/samudra.py") == ["train", "evaluate"]
    assert changed_by_an_edit_of("forecasting/baselines/persistence.py") == ["evaluate", "compare"]
    assert changed_by_an_edit_of("figures/maps.py") == ["evaluate", "compare"]


def test_a_digest_tells_names_and_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocean_emulators.workspace.PACKAGE", tmp_path / "package")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/a.py").write_text("x")
    first = sources_digest([tmp_path / "package"])
    assert sources_digest([tmp_path / "package/a.py"]) == first, "a folder is its files"
    (tmp_path / "package/a.py").rename(tmp_path / "package/b.py")
    assert sources_digest([tmp_path / "package"]) != first


def test_the_root_is_the_nearest_project_and_home_is_dvcs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = project / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert Workspace.here() == Workspace(project, project)
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    assert Workspace.here() == Workspace(project, Path("/elsewhere"))


def test_files_that_git_does_not_hold_are_found_at_home(tmp_path: Path) -> None:
    copy, home = tmp_path / "copy", tmp_path / "home"
    for folder in (copy, home):
        folder.mkdir()
    (home / "weights.pt").write_text("home")
    workspace = Workspace(copy, home)
    assert workspace.find("weights.pt") == home / "weights.pt"
    (copy / "weights.pt").write_text("copy")
    assert workspace.find("weights.pt") == copy / "weights.pt"
    assert workspace.find("none.pt") is None
