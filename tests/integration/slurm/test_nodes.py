"""Training by several nodes of a real SLURM: its result, what they talk through, and what follows when one of them fails."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Project
from tests.integration.slurm.cluster import Cluster, running_cluster
from tests.integration.slurm.nodes import INTERFACE, why_not
from tests.integration.slurm.stages import Stage, prepared, ranks_of, same_weights, train_here

EPOCHS = 5


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with running_cluster(nodes=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def ready(fresh: Project, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Not to be changed."""
    return prepared(fresh, tmp_path_factory.mktemp("ready") / "project", EPOCHS)


@pytest.fixture
def start(start: Callable[..., Stage]) -> Callable[..., Stage]:
    """On both nodes."""
    return lambda **options: start(**{"nodes": 2, "processes": 1, **options})


def test_training_by_several_nodes(start: Callable[..., Stage], ready: Project, tmp_path: Path) -> None:
    """The weights are those of as many processes of one machine."""
    stage = start(processes=2)
    stage.end(0)
    job = stage.job
    for rank, node in enumerate(("n1", "n1", "n2", "n2")):
        said = (job.logs / f"{job.id}_{rank}_log.out").read_text()
        assert f"hostname={node}, local_rank={rank % 2}(2), node={rank // 2}(2), global_rank={rank}(4)" in said
    same_weights(stage.project, train_here(ready.copy(tmp_path / "here"), 4))


def test_nodes_talk_through_the_network_that_is_named(
    start: Callable[..., Stage], cluster: Cluster, of_local: Project
) -> None:
    """Where each takes its own name for an address within itself, nothing else brings them together."""
    assert cluster.network is not None
    cluster.network.name_themselves()
    try:
        stage = start()
        stage.end(2)
        assert "can't reach the others: Gloo connectFullMesh failed" in stage.said
        assert "the interface that `network` of the launch configuration names" in stage.said
        assert "Traceback" not in stage.said
        again = start(network=INTERFACE)
        again.end(0)
    finally:
        cluster.network.name_all()
    same_weights(again.project, of_local)


def test_a_network_that_is_not_there(start: Callable[..., Stage]) -> None:
    stage = start(network="ib0")
    stage.end(2)
    assert "error: launch configuration: network: ib0: node n" in stage.said
    assert f"has no such interface with an address; it has lo, {INTERFACE}" in stage.said
    assert "Traceback" not in stage.said


def test_a_killed_process_of_another_node(start: Callable[..., Stage], cluster: Cluster, of_local: Project) -> None:
    """The stage names it, and the next one goes on."""
    stage = start()
    stage.until_saved()
    first, second = ranks_of(stage.job)
    assert [process.environ()["SLURMD_NODENAME"] for process in (first, second)] == ["n1", "n2"]
    os.kill(second.pid, signal.SIGKILL)
    stage.end(2)
    assert f"process 2 of 2 of job {stage.job.id} (train) was ended by SIGKILL" in stage.said
    cluster.until_idle()
    again = start()
    again.end(0)
    assert "resuming after epoch" in again.said
    same_weights(stage.project, of_local)


def test_a_node_that_fails(start: Callable[..., Stage], cluster: Cluster, of_local: Project) -> None:
    """The job waits until it is back, and goes on. That it is down SLURM is told here: by itself it finds out after minutes."""
    stage = start()
    stage.until_saved()
    cluster.stop_node("n2")
    stage.until(lambda: "process 1 of 2 has lost the others" in stage.job.errors.read_text())
    cluster.ask("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    stage.until(lambda: "requeued 1 times so far, last after node failure" in stage.said)
    cluster.start_node("n2")
    stage.end(0)
    assert "resuming after epoch" in stage.said
    assert not list(stage.job.logs.glob("*.end")), "what was said of the failure holds no longer"
    same_weights(stage.project, of_local)
