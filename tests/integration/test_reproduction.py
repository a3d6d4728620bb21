"""A run of a project that is gone, made again from its record; and what is told where something has changed."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests import tiny
from tests.integration.conftest import Project
from tests.integration.mlflow_server import Server, running_server

SOURCE = "ocean_emulators/losses/masked.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("server")) as server:
        yield server


def clone(origin: Path, root: Path) -> Project:
    """With what DVC has at its remote."""
    project = Project(root)
    Project(root.parent).run("git", "clone", "-q", str(origin), str(root))
    for key, value in (("user.name", "Tester"), ("user.email", "tester@example.org")):
        project.run("git", "config", key, value)
    project.run("dvc", "pull")
    return project


@pytest.fixture(scope="module")
def origin(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository, whose results are at a remote of DVC's."""
    folder = tmp_path_factory.mktemp("origin")
    project = done.copy(folder / "first")
    project.run("dvc", "remote", "add", "-d", "store", str(folder / "store"))
    project.commit("A remote")
    project.run("dvc", "push")
    project.run("git", "clone", "-q", "--bare", ".", str(folder / "origin.git"))
    shutil.rmtree(project.root)
    return folder / "origin.git"


def test_a_run_is_made_again_where_its_project_is_gone(origin: Path, server: Server, tmp_path: Path) -> None:
    """It was made with another seed and with a change of the code, neither of which was committed."""
    first = clone(origin, tmp_path / "first")
    with (first.root / SOURCE).open("a") as source:
        source.write("\n# a change\n")
    (first.root / "ocean_emulators/unused.py").write_text("X = 1\n")
    tree = first.params()
    tree["train"]["seed"] = 5
    first.configure(tree)
    first.run("dvc", "repro", MLFLOW_TRACKING_URI=server.address)
    client = MlflowClient(server.address)
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    shutil.rmtree(first.root)
    second = clone(origin, tmp_path / "second")
    output = second.run("ocean-emulators", "reproduce", run.info.run_id, MLFLOW_TRACKING_URI=server.address)
    print(output)
    assert "This tree is another one" in output
    assert "train.seed: 5 in run" in output
    assert "code, configuration, data and environment are those of the run" in output
    for name in (
        "train/checkpoint.pt",
        "evaluation/predictions.zarr",
        "evaluation/scores.json",
        "comparison/comparison.csv",
    ):
        assert f"identical  outputs/{name}" in output
    assert "DIFFERENT" not in output
    assert "reproduce-" not in second.run("git", "worktree", "list")
    assert not list(second.root.glob("build/*"))
    assert "Data and pipelines are up to date" in second.run("dvc", "repro")


@pytest.fixture
def made(done: Project, tmp_path: Path) -> Project:
    """A project with one run, whose ocean git does not hold."""
    project = done.copy(tmp_path / "project")
    project.run("git", "rm", "-rq", "--cached", "data/tiny.zarr")
    with (project.root / ".gitignore").open("a") as ignored:
        ignored.write("/data/tiny.zarr/\n")
    project.commit("The ocean lies beside the repository")
    project.run("dvc", "repro", "--force", "--single-item", "train", OCEAN_EMULATORS_TRACKER="none")
    return project


def test_what_has_changed_since_a_run_is_told(made: Project) -> None:
    (row,) = json.loads(made.run("ocean-emulators", "runs", "list", "--json"))
    assert row["stages"] == "train"
    assert "same: the losses of the first 10 steps, to the bit" in made.run("ocean-emulators", "same", row["run"])
    assert made.run("ocean-emulators", "runs", "diff", row["run"]).strip() == "nothing differs"
    tree = made.params()
    tree["train"]["learning_rate"] *= 2
    made.configure(tree)
    shutil.rmtree(made.root / "data/tiny.zarr")
    tiny.write(made.root / "data/tiny.zarr", seed=3)
    made.run("dvc", "repro", "stats")
    output = made.run("ocean-emulators", "runs", "diff", row["run"])
    assert "train.learning_rate: 0.003 in run" in output
    assert "data differ: data." in output
    assert "code differs" not in output
    output = made.run("ocean-emulators", "same", row["run"], fails=True)
    assert "DIFFERENT: the losses of" in output
    assert "data differ: data." in output
    output = made.run("ocean-emulators", "reproduce", row["run"], fails=True)
    print(output)
    assert "data differ: data." in output
    assert "DIFFERENT  outputs/train/checkpoint.pt" in output


def test_what_can_not_be_made_again_is_refused(made: Project) -> None:
    (row,) = json.loads(made.run("ocean-emulators", "runs", "list", "--json"))
    shown = json.loads(made.run("ocean-emulators", "runs", "show", row["run"], "--json"))
    assert set(shown["left"]) == {"train/checkpoint.pt", "train/history.csv", "train/validation_maps"}
    output = made.run("ocean-emulators", "reproduce", "nothing", fails=True)
    assert "error: no run 'nothing' in" in output
    (made.root / "ocean_emulators/hidden.py").write_text("X = 1\n")
    (made.root / ".git/info/exclude").write_text("hidden.py\n")
    made.run("dvc", "repro", "--force", "--single-item", "train", OCEAN_EMULATORS_TRACKER="none")
    newest = json.loads(made.run("ocean-emulators", "runs", "list", "--json"))[0]["run"]
    output = made.run("ocean-emulators", "reproduce", newest, fails=True)
    assert "error: the code of the run can't be made again" in output
    assert not list(made.root.glob("build/*"))
    about = made.root / shown["record"] / "run.json"
    about.write_text(about.read_text().replace("0.003", "0.004"))
    output = made.run("ocean-emulators", "runs", "show", row["run"], fails=True)
    assert "damaged: it contradicts its own hash" in output
