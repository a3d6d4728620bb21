"""MLflow's stores: created by several at once, or on a server."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ocean_emulators.errors import UserError
from ocean_emulators.tracking.mlflow import MlflowTracker
from ocean_emulators.tracking.provenance import Provenance
from tests.integration.conftest import ENVIRONMENT, Project

OPEN = """
import sys
from ocean_emulators.tracking import open_tracker
from ocean_emulators.tracking.provenance import Provenance
from ocean_emulators.workspace import Workspace
home = Workspace.here().home
with open_tracker("many", Provenance({"number": int(sys.argv[1])}, "data"), "train", home) as tracker:
    tracker.log_metrics({"loss (°C)": 1.0}, step=3)
"""


def test_several_processes_may_create_the_store(untouched: Project) -> None:
    commands = [[sys.executable, "-c", OPEN, str(number)] for number in range(3)]
    processes = [subprocess.Popen(command, cwd=untouched.root, env=ENVIRONMENT) for command in commands]
    assert [process.wait(timeout=200) for process in processes] == [0, 0, 0]
    runs = untouched.runs()
    assert sorted(run.data.params["number"] for run in runs) == ["0", "1", "2"]
    assert all(run.data.metrics == {"loss __C_": 1.0} for run in runs)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real MLflow server on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    store = [f"--backend-store-uri=sqlite:///{tmp_path}/server.db", f"--artifacts-destination={tmp_path}/artifacts"]
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1", *store]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=ENVIRONMENT, start_new_session=True, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as page:
                assert page.status == 200
                break
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
    yield address
    process.terminate()
    process.wait(timeout=60)


def test_a_server_receives_the_run(project: Project, server: str) -> None:
    project.run("dvc", "exp", "run", "-S", "comparison.seed=9", MLFLOW_TRACKING_URI=server)
    client = MlflowClient(server)
    (run,) = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert run.info.status == "FINISHED"
    assert {file.path for file in client.list_artifacts(run.info.run_id, "scores")} >= {"scores/comparison.csv"}
    assert not (project.root / "mlflow.db").exists()


def test_a_deleted_experiment_is_refused_with_the_way_to_bring_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracker = MlflowTracker("gone", Provenance({"a": 1}, "data"), tmp_path)
    tracker.client.delete_experiment(tracker.client.get_run(tracker.run_id).info.experiment_id)
    with pytest.raises(
        UserError, match=r"name: the experiment 'gone' was deleted in MLflow; .* restore --experiment-id"
    ):
        MlflowTracker("gone", Provenance({"a": 2}, "data"), tmp_path)


def test_a_server_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        UserError, match=r"MLflow's store at http://127.* can't be used: .*OCEAN_EMULATORS_TRACKER=none"
    ):
        MlflowTracker("any", Provenance({}, "data"), tmp_path)
