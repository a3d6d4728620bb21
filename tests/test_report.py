"""Results say what they are of, and `configure` loses nothing."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ocean_emulators.cli.main import main
from ocean_emulators.workspace import Workspace, look_up
from tests import tiny
from tests.pipeline import STAGES, configure


@pytest.fixture
def locked(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The project as DVC leaves it: `dvc.lock` holds the values that the results were made with."""
    params = yaml.safe_load(workspace.params.read_text())
    stages = {
        stage: {"params": {"params.yaml": {key: look_up(params, key) for key in workspace.stage(stage)["params"]}}}
        for stage in STAGES
    }
    (workspace.root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    monkeypatch.chdir(workspace.root)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return workspace


def report(capsys: pytest.CaptureFixture[str]) -> str:
    main(["report"])
    return capsys.readouterr().out


def test_scores_of_the_params_at_hand_come_without_a_warning(
    locked: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    text = report(capsys)
    assert "NOT" not in text
    assert "Damped anomaly persistence" in text
    assert "Predictions: outputs/evaluation/predictions.zarr" in text
    assert "Figures: outputs/evaluation/figures" in text
    assert "Runs: none recorded here yet" in text


def test_scores_of_other_params_are_told(locked: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    tree = tiny.experiment(locked.root / "tiny.zarr", learning_rate=0.5)
    tree["evaluation"]["report_days"] = [15]
    configure(locked, tree)
    text = report(capsys)
    assert "NOT OF THESE PARAMS: params.yaml has changed since (train.learning_rate was 0.003, is 0.5" in text
    assert "evaluation.report_days" in text
    header = next(line for line in text.splitlines() if line.strip().startswith("days"))
    assert header.split() == ["days", "10", "20", "30"], "the leads of the experiment that the scores are of"


def test_scores_that_came_with_the_repository_are_told(locked: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """As in a fresh clone: git holds the small tables alone."""
    shutil.rmtree(locked.prepared)
    shutil.rmtree(locked.evaluation.predictions)
    text = report(capsys)
    assert (
        "NOT MADE HERE: these scores came with the repository; data/prepared, outputs/evaluation/predictions.zarr"
        in text
    )
    assert "Predictions:" not in text


def test_without_scores_the_way_to_them_is_told(locked: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    locked.comparison.table.unlink()
    with pytest.raises(SystemExit, match="2"):
        main(["report"])
    assert "comparison.csv: no comparison here; `make repro` or `dvc repro` makes it" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "schema: '2.0'", "stages: [1]", "stages: {compare: {params: 3}}", "{"])
def test_a_lock_file_that_dvc_did_not_write_is_told(
    content: str, locked: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    (locked.root / "dvc.lock").write_text(content)
    with pytest.raises(SystemExit, match="2"):
        main(["report"])
    assert "dvc.lock: " in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "<<<<<<< HEAD\n", "forecast,variable\nemulator,all\n", "\0"])
@pytest.mark.parametrize("name", ["comparison/comparison.csv", "evaluation/scores.json"])
def test_damaged_scores_are_told(
    name: str, content: str, locked: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    (locked.root / "outputs" / name).write_text(content)
    with pytest.raises(SystemExit, match="2"):
        main(["report"])
    message = capsys.readouterr().err
    assert f"{name}: damaged" in message
    assert "`dvc repro` makes it anew" in message


@pytest.fixture
def preset(locked: Workspace) -> Path:
    (locked.root / "preset.yaml").write_text(yaml.safe_dump(tiny.experiment(locked.root / "tiny.zarr")))
    return Path("preset.yaml")


def test_an_edited_file_is_kept_and_its_changes_are_told(
    locked: Workspace, preset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited = locked.params.read_text().replace("epochs: 2", "epochs: 7  # by hand")
    locked.params.write_text(edited)
    main(["configure", str(preset), "model.width=4"])
    said = capsys.readouterr().out
    assert "train.epochs: 7 -> 2" in said
    assert "model.width: None -> 4" in said
    assert "it is kept as params.yaml.bak" in said
    assert (locked.root / "params.yaml.bak").read_text() == edited


def test_a_file_that_git_holds_is_not_kept_twice(
    locked: Workspace, preset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (
        ["init", "-q"],
        ["add", "params.yaml"],
        ["-c", "user.name=T", "-c", "user.email=t@t", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *command], cwd=locked.root, check=True)
    main(["configure", str(preset), "model.width=4"])
    assert "model.width: None -> 4" in capsys.readouterr().out
    assert not (locked.root / "params.yaml.bak").exists()


def test_rendering_the_same_again_says_nothing_of_changes(
    locked: Workspace, preset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["configure", str(preset)])
    capsys.readouterr()
    main(["configure", str(preset)])
    assert capsys.readouterr().out == "wrote params.yaml\n"


def test_help_needs_no_library_that_takes_long() -> None:
    """A command is imported when it is chosen."""
    program = (
        "import sys\nfrom ocean_emulators.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'pydantic', 'xarray', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("configure", "check", "import", "report", "data"):
        assert command in done.stdout
