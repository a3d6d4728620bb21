"""What DVC makes again, and what it keeps."""

from pathlib import Path

import pytest

from tests.integration.conftest import Project, stages_run


def edit(project: Project, path: str) -> None:
    """A remark, which changes no result: what depends on the file is run, and what depends on its results is not."""
    file = project.root / "ocean_emulators" / path
    file.write_text(file.read_text() + "\n# a remark\n")


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("cli/report.py", []),
        ("tracking/mlflow.py", []),
        ("datasets/source/location.py", ["prepare"]),
        ("models/samudra.py", ["train", "evaluate"]),
        ("forecasting/baselines/persistence.py", ["evaluate", "compare"]),
    ],
)
def test_an_edit_runs_what_it_may_change_and_no_more(project: Project, path: str, stages: list[str]) -> None:
    edit(project, path)
    assert stages_run(project.run("dvc", "repro")) == stages


def test_another_test_period_trains_nothing_again(project: Project) -> None:
    before = (project.root / "outputs/train/checkpoint.pt").read_bytes()
    output = project.run("dvc", "exp", "run", "-S", "data.periods.test.end=2002-12-20")
    assert stages_run(output) == ["prepare", "stats", "evaluate", "compare"]
    assert (project.root / "outputs/train/checkpoint.pt").read_bytes() == before


def test_params_that_are_edited_while_a_stage_runs_are_not_locked_with_its_result(project: Project) -> None:
    """The stage fails and leaves its result aside; with the old value again, it is taken without a new training."""
    params = project.root / "params.yaml"
    longer = params.read_text().replace("epochs: 2", "epochs: 3")
    params.write_text(longer)
    stage = project.root / "ocean_emulators/jobs/train.py"
    code, line = stage.read_text(), "            trainer.run()\n"
    assert code.count(line) == 1
    edit = (
        "from pathlib import Path as P",
        "p = P('params.yaml')",
        "p.write_text(p.read_text().replace('epochs: 3', 'epochs: 4')) if not P('edited').exists() else None",
        "P('edited').touch()",
    )
    waiting = code.replace(line, line + "".join(f"            {statement}\n" for statement in edit))
    stage.write_text(waiting)
    failed = project.run("dvc", "repro", fails=True)
    assert "params.yaml: train was edited while stage train ran" in failed
    assert "epochs: 3" not in (project.root / "dvc.lock").read_text()
    params.write_text(longer)
    again = project.run("dvc", "repro")
    assert stages_run(again) == ["train", "evaluate", "compare"]
    assert "epoch 1/3" not in again, "its result was kept"
    assert "Data and pipelines are up to date" in project.run("dvc", "repro")


def test_report_in_a_clone_says_what_was_not_made_there(done: Project, tmp_path: Path) -> None:
    done.run("git", "clone", "-q", str(done.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    said = clone.run("ocean-emulators", "report")
    assert "NOT MADE HERE: these scores came with the repository" in said
    assert (
        "predictions.zarr"
        not in said.replace("outputs/evaluation/predictions.zarr, ", "").partition("are not there")[2]
    )
