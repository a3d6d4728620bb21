"""A real project on the tiny ocean: git, DVC and MLflow as a user has them."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from ocean_emulators.config.base import parse
from ocean_emulators.config.render import render
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.experiment import Experiment
from tests import tiny

ROOT = Path(__file__).parents[2]
PARTS = [
    "ocean_emulators",
    "launchers",
    "configs",
    "dvc.yaml",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitignore",
]
ALL = ["prepare", "stats", "train", "evaluate", "compare"]
DROPPED = ("OCEAN_EMULATORS_TRACKER", "MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME", "PYTHONPATH")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in DROPPED} | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_CONFIG_GLOBAL": os.devnull,
}


@dataclass(frozen=True)
class Project:
    """A folder with git, DVC and a store of MLflow runs."""

    root: Path

    def run(self, *command: str, fails: bool = False, timeout: float = 600, **env: str) -> str:
        """Run a command, check whether it succeeds, and return what it printed."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=ENVIRONMENT | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=timeout,
        )
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    def commit(self, message: str) -> None:
        """Commit all."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)

    def configure(self, tree: dict[str, Any]) -> None:
        """Write params.yaml."""
        (self.root / "params.yaml").write_text(render(parse(Experiment, tree, "tiny")))

    def params(self) -> dict[str, Any]:
        """What params.yaml says."""
        return load_yaml(self.root / "params.yaml")

    def client(self) -> MlflowClient:
        """Of the project's own store."""
        return MlflowClient(f"sqlite:///{self.root / 'mlflow.db'}")

    def runs(self) -> list[Run]:
        """All MLflow runs, newest first."""
        client = self.client()
        return client.search_runs([e.experiment_id for e in client.search_experiments()])

    def work_off_queue(self, seconds: float = 400) -> str:
        """Run what DVC has queued, two at a time; the last `dvc queue status`, when nothing waits or runs any more.

        `dvc exp run --run-all` would wait for the workers to end as well, which now and then one does not.
        """
        self.run("dvc", "queue", "start", "--jobs", "2")
        return self.until_queue_is_empty(seconds)

    def until_queue_is_empty(self, seconds: float = 400, **env: str) -> str:
        """The last `dvc queue status`, when nothing waits or runs any more."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.run("dvc", "queue", "status", **env)
            if "Queued" not in status and "Running" not in status:
                return status
            assert time.monotonic() < deadline, status
            time.sleep(2)

    def copy(self, root: Path) -> "Project":
        """The same project elsewhere, with its cache but without its records."""
        ignored = shutil.ignore_patterns("mlflow.db*", "mlruns", "runs", "tmp", ".scratch")
        return Project(Path(shutil.copytree(self.root, root, symlinks=True, ignore=ignored)))


def leaves(tree: Any) -> list[float]:
    """The numbers in nested dictionaries."""
    return [x for value in tree.values() for x in leaves(value)] if isinstance(tree, dict) else [tree]


def stages_run(output: str) -> list[str]:
    """The stages that DVC says it ran."""
    return [name for name in ALL if f"Running stage '{name}'" in output]


def new_project(root: Path) -> Project:
    """The code as it is in the working tree, on the tiny ocean; committed, nothing run."""
    for part in PARTS:
        source, target = ROOT / part, root / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (root / "data").mkdir()
    tiny.write(root / "data" / "tiny.zarr")
    project = Project(root)
    project.configure(tiny.experiment())
    project.run("git", "init", "-q", "-b", "main")
    project.run("git", "config", "user.name", "Tester")
    project.run("git", "config", "user.email", "tester@example.org")
    project.commit("A tiny ocean")
    return project


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which nothing has been run; not to be changed."""
    return new_project(tmp_path_factory.mktemp("fresh") / "project")


@pytest.fixture(scope="session")
def done(fresh: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after its first `dvc repro`, committed; not to be changed."""
    project = fresh.copy(tmp_path_factory.mktemp("done") / "project")
    (project.root / "first.log").write_text(project.run("dvc", "repro"))
    project.commit("First result")
    return project


@pytest.fixture
def project(done: Project, tmp_path: Path) -> Project:
    """A copy of the project after its first `dvc repro`, to be changed at will."""
    return done.copy(tmp_path / "project")


@pytest.fixture
def untouched(fresh: Project, tmp_path: Path) -> Project:
    """A copy of the project in which nothing has been run, to be changed at will."""
    return fresh.copy(tmp_path / "project")
