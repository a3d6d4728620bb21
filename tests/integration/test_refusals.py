"""What a user gets wrong is refused before any work, in one readable message, with exit code 2."""

import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.integration.conftest import ENVIRONMENT, Project

MISTAKES = {
    "wrong key": ({"model.widht": 4}, "model.widht: unknown key; did you mean 'width'?"),
    "wrong type": ({"train.epochs": "many"}, "train.epochs: found 'many'"),
    "overlap": ({"data.periods.test.start": "2002-06-01"}, "validation (2002-01-01 to 2002-06-30) and test"),
    "missing file": ({"data.source": "data/none.zarr"}, "data.source: data/none.zarr: no such file or folder"),
    "small grid": ({"model.dilation": [1, 2, 4, 8], "model.widths": [4, 4, 4, 4]}, "the grid of 16 × 32 has"),
    "short test": ({"evaluation.lead_days": 1000}, "evaluation.lead_days: 1000 days need"),
    "long rollout": ({"train.rollout_steps": [40]}, "data.periods.validation: holds 36 times"),
    "unknown field": ({"data.prognostic": ["thetao", "wo"]}, "data.prognostic: no field 'wo'"),
    "absent level": ({"data.levels": [0, 7]}, "data.levels: level 7 asked for"),
    "absent period": (
        {"data.periods.test.start": "2010-01-01", "data.periods.test.end": "2011-01-01"},
        "data.periods.test",
    ),
}


def mistake(project: Project, changes: dict[str, Any]) -> None:
    tree = project.params()
    for key, value in changes.items():
        node = tree
        *parents, last = key.split(".")
        for parent in parents:
            node = node[parent]
        node[last] = value
    (project.root / "params.yaml").write_text(yaml.safe_dump(tree))


def refuse(project: Project, *command: str) -> str:
    done = subprocess.run(command, cwd=project.root, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("name", MISTAKES)
def test_refused_by_check_and_by_the_first_stage(untouched: Project, name: str) -> None:
    changes, message = MISTAKES[name]
    mistake(untouched, changes)
    for command in (("ocean-emulators", "check"), (sys.executable, "-m", "launchers", "prepare")):
        stderr = refuse(untouched, *command)
        assert stderr.startswith("error: ")
        assert message in stderr
    assert not (untouched.root / "data/prepared").exists()
    assert not (untouched.root / "mlflow.db").exists()


def test_shown_by_dvc(untouched: Project) -> None:
    mistake(untouched, {"train.learning_rate": -1})
    output = untouched.run("dvc", "repro", fails=True)
    assert "train.learning_rate: found -1" in output


def test_training_needs_prepared_data(untouched: Project) -> None:
    assert "`dvc repro prepare` makes it" in refuse(untouched, sys.executable, "-m", "launchers", "train")


def test_a_launch_configuration_is_checked(untouched: Project) -> None:
    (untouched.root / "configs/launch/inline.yaml").write_text("where: moon\n")
    stderr = refuse(untouched, sys.executable, "-m", "launchers", "train")
    assert "configs/launch/inline.yaml: where: found 'moon'" in stderr


def test_a_model_that_does_not_fit_is_refused_before_training(project: Project) -> None:
    """Data are prepared already, so the first stage to run is training."""
    output = project.run(
        "dvc", "exp", "run", "-S", "model.dilation=[1,2,4,8]", "-S", "model.widths=[4,4,4,4]", fails=True
    )
    assert "the grid of 16 × 32 has" in output
    assert "epoch" not in output
