"""A cluster, a project on it, and what starts its stages. Each file of tests has a `ready` that the project is a copy of."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Project
from tests.integration.slurm.cluster import Cluster, running_cluster
from tests.integration.slurm.stages import Stage, starting, train_here


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def of_local(ready: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Trained by two processes of this machine."""
    return train_here(ready.copy(tmp_path_factory.mktemp("local") / "project"), 2)


@pytest.fixture
def project(ready: Project, tmp_path: Path, cluster: Cluster) -> Iterator[Project]:
    yield ready.copy(tmp_path / "project")
    cluster.cancel_all()
    cluster.resume()


@pytest.fixture
def start(project: Project, cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    with starting(project, cluster, tmp_path) as start:
        yield start
