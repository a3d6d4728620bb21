"""Shared fixtures: the tiny ocean, prepared once."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["OCEAN_EMULATORS_TRACKER"] = "none"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, and waiting threads spin

from ocean_emulators.config.base import parse
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.statistics.compute import compute_statistics
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore, open_store, store_path
from ocean_emulators.experiment import Experiment
from ocean_emulators.workspace import Workspace
from tests import tiny
from tests.pipeline import configure, new_workspace, run_all


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny ocean in OM4's layout."""
    return tiny.write(tmp_path_factory.mktemp("tiny") / "tiny.zarr")


@pytest.fixture(scope="session")
def experiment(source: Path) -> Experiment:
    """An experiment on the tiny ocean."""
    return parse(Experiment, tiny.experiment(source), "tiny")


@pytest.fixture(scope="session")
def store(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> PackedStore:
    """The tiny ocean, prepared."""
    folder = tmp_path_factory.mktemp("data") / "prepared"
    prepare(experiment.data, folder)
    return open_store(store_path(folder, "x1"))


@pytest.fixture(scope="session")
def statistics(experiment: Experiment, store: PackedStore) -> Statistics:
    """Its statistics."""
    return compute_statistics(store, experiment.data.periods.train)


@pytest.fixture
def project(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project folder as the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / ".dvc").mkdir()
    yield tmp_path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A project on the tiny ocean in which all stages were run; not to be changed."""
    return run_all(new_workspace(tmp_path_factory.mktemp("made") / "project"))


@pytest.fixture
def workspace(made: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the project in which all stages were run, to be changed at will."""
    copy = Workspace(tmp_path / "copy", tmp_path / "copy")
    shutil.copytree(made.root, copy.root)
    configure(copy, tiny.experiment(copy.root / "tiny.zarr"))
    return copy
