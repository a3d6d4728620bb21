"""What a user of MLflow sees of runs: their names, scores, data sets and models, and the page in a browser."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from safetensors.torch import load_file

from ocean_emulators.tracking.delivery import Delivery
from ocean_emulators.tracking.mlflow import own_store
from ocean_emulators.tracking.open import VARIABLE, chosen_trackers, open_record
from ocean_emulators.tracking.provenance import Provenance
from ocean_emulators.tracking.record import runs_in
from ocean_emulators.train.checkpoints import Checkpoint
from tests.integration.conftest import ENVIRONMENT, Project

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def changed(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which DVC has run an experiment that differs in a value; its checkpoint is registered on request."""
    project = done.copy(tmp_path_factory.mktemp("changed") / "project")
    project.run("dvc", "exp", "run", "-S", "comparison.bootstrap_draws=40", OCEAN_EMULATORS_REGISTER="emulator")
    return project


def the_run(project: Project) -> Run:
    (run,) = project.runs()
    return run


def test_a_run_is_called_by_what_it_changes(changed: Project) -> None:
    run = the_run(changed)
    name = run.data.tags["dvc.experiment"]
    assert run.data.tags["changed"] == "comparison.bootstrap_draws=40"
    assert run.info.run_name == f"bootstrap_draws=40 · {name}"
    note = run.data.tags["mlflow.note.content"]
    key = run.data.tags["experiment.key"][:8]
    for part in (f"`{name}`", "`comparison.bootstrap_draws=40`", f"ocean-emulators reproduce {key}", "Persistence"):
        assert part in note
    assert f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/figures" in note


def test_a_run_has_its_periods_as_data_sets(changed: Project) -> None:
    run = the_run(changed)
    inputs = {one.dataset.name: one for one in run.inputs.dataset_inputs}
    assert {name: one.tags[0].value for name, one in inputs.items()} == {
        "train": "training",
        "validation": "validation",
        "test": "testing",
    }
    for name, one in inputs.items():
        assert run.data.tags[f"data.{name}"].startswith(one.dataset.digest)
        assert json.loads(one.dataset.source) == {"uri": "data/tiny.zarr"}
        assert json.loads(one.dataset.profile) == changed.params()["data"]["periods"][name]


def test_a_checkpoint_is_a_model_with_weights_that_anyone_can_read(changed: Project, tmp_path: Path) -> None:
    run, client = the_run(changed), changed.client()
    (output,) = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (str(model.status), model.source_run_id, model.params["widths"]) == ("READY", run.info.run_id, "[6, 8]")
    folder = Path(model.artifact_location.removeprefix("file://"))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    checkpoint = Checkpoint.load(changed.root / "outputs/train/checkpoint.pt")
    weights = load_file(folder / "model.safetensors")
    assert weights.keys() == checkpoint.averaged_model.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in checkpoint.averaged_model.items())
    told = json.loads((folder / "config.json").read_text())
    assert told["config"] == checkpoint.config
    assert told["mean"] == checkpoint.mean.tolist()


def test_scores_are_those_of_the_model_on_the_test_period(changed: Project) -> None:
    run = the_run(changed)
    model = changed.client().get_logged_model(run.outputs.model_outputs[0].model_id)
    scores = {metric.key: metric for metric in model.metrics if metric.key.startswith("score/")}
    assert scores.keys() == {"score/nrmse", "score/ratio"}
    for name, metric in scores.items():
        assert metric.value == run.data.metrics[name] == round(metric.value, 4)
        assert (metric.dataset_name, metric.run_id) == ("test", run.info.run_id)
        assert run.data.tags["data.test"].startswith(metric.dataset_digest)


def test_a_model_is_registered_on_request_and_once(changed: Project) -> None:
    key = the_run(changed).data.tags["experiment.key"][:8]
    for name, version in (("emulator", "1"), ("other", "1"), ("other", "1")):
        said = changed.run("ocean-emulators", "register", key, name)
        assert said == f"run {key} is version {version} of {name}\n"
    (version,) = changed.client().search_model_versions("name = 'emulator'")
    model = changed.client().get_logged_model(the_run(changed).outputs.model_outputs[0].model_id)
    assert version.source == f"models:/{model.model_id}"
    told = [(one["name"], str(one["version"])) for one in json.loads(model.tags["mlflow.modelVersions"])]
    assert told == [("emulator", "1"), ("other", "1")]
    assert "no run 'moon'" in changed.run("ocean-emulators", "register", "moon", "emulator", fails=True)


def test_what_is_sent_again_stands_there_once(changed: Project) -> None:
    before = the_run(changed)
    (run,) = runs_in(changed.root)
    for note in run.folder.glob("*.sent"):
        note.unlink()
    assert "sent" in changed.run("ocean-emulators", "runs", "sync")
    after, client = the_run(changed), changed.client()
    assert after.data.to_dictionary() == before.data.to_dictionary()
    assert len(after.outputs.model_outputs) == 1
    assert len(after.inputs.dataset_inputs) == 3
    (model,) = client.search_logged_models([after.info.experiment_id])
    names = [(metric.key, metric.step) for metric in model.metrics]
    assert len(names) == len(set(names))


def test_a_checkpoint_that_was_replaced_comes_from_the_cache_of_dvc(changed: Project, tmp_path: Path) -> None:
    project = Project(Path(shutil.copytree(changed.root, tmp_path / "project", symlinks=True)))
    (project.root / "mlflow.db").unlink()
    (project.root / "outputs/train/checkpoint.pt").unlink()
    (event,) = [line for line in next(iter(runs_in(project.root))).events.read_text().splitlines() if '"model"' in line]
    assert not event.startswith(str(project.root))
    project.run("ocean-emulators", "runs", "sync")
    (model,) = project.client().search_logged_models([the_run(project).info.experiment_id])
    assert model.tags["weights"] == "safetensors"


# Runs that begin from others


@pytest.mark.parametrize("order", ["parent first", "child first"])
def test_a_run_that_begins_from_the_weights_of_another_is_its_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    monkeypatch.setenv(VARIABLE, "none")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file = tmp_path / "weights.pt"
    torch.save({"model": {}, "averaged_model": {"a": torch.ones(2)}, "config": {}}, file)
    with open_record("sea", Provenance({"number": 1}, "data"), tmp_path) as parent:
        parent.log_model(file)
    sha256 = parent.run.contents().model
    with open_record("sea", Provenance({"train": {"initial_weights": {"sha256": sha256}}}, "data"), tmp_path) as child:
        child.log_metrics({"loss": 1.0})
    monkeypatch.setenv(VARIABLE, "mlflow")
    records = [parent, child] if order == "parent first" else [child, parent]
    for record in records:
        with closing(Delivery("mlflow", chosen_trackers(tmp_path)["mlflow"], record.run, record.about)) as delivery:
            delivery.deliver()
    client = MlflowClient(own_store(tmp_path))
    runs = {run.data.tags["record.id"]: run for run in client.search_runs(["1"])}
    assert runs[child.about.id].data.tags["mlflow.parentRunId"] == runs[parent.about.id].info.run_id
    assert "mlflow.parentRunId" not in runs[parent.about.id].data.tags


# A server, and a browser


@pytest.fixture(scope="module")
def page(changed: Project) -> Iterator[str]:
    """Address of MLflow's pages for the project."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    command.append(f"--backend-store-uri={own_store(changed.root)}")
    with subprocess.Popen(command, cwd=changed.root, env=ENVIRONMENT, start_new_session=True) as process:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while not _answers(address):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
        yield address
        os.killpg(process.pid, signal.SIGTERM)


def _answers(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def test_the_report_leads_to_the_runs_and_their_curves(changed: Project, page: str) -> None:
    number = the_run(changed).info.experiment_id
    place = f"/#/experiments/{number}/runs?workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey=runs"
    own = changed.run("ocean-emulators", "report")
    assert f"Runs: http://127.0.0.1:5000{place}\n  served by: mlflow ui" in own
    assert f"Runs: {page}{place}\n" in changed.run("ocean-emulators", "report", MLFLOW_TRACKING_URI=page)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_page_shows_names_scores_and_curves(changed: Project, page: str, tmp_path: Path) -> None:
    run = the_run(changed)
    address = f"{page}/#/experiments/{run.info.experiment_id}/runs?viewStateShareKey=runs"
    table = browse(address, tmp_path, f"{run.data.metrics['score/nrmse']}")
    for part in (run.info.run_name, "comparison.bootstrap_draws=40", "compare evaluate train", "score/ratio"):
        assert part in table
    curves = browse(f"{address}&compareRunsMode=CHART", tmp_path, "forecast/acc/all")
    assert curves.index("Learning, by epoch") < curves.index("Forecasts, by lead in days") < curves.index("free_run")


def browse(address: str, folder: Path, awaited: str) -> str:
    """What a browser makes of a page, once that is there: on a busy machine it may take the page as it is too early."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    command += ["--window-size=2400,2400", "--virtual-time-budget=30000", "--dump-dom", address]
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        if awaited in done.stdout:
            return done.stdout
    raise AssertionError(f"{awaited!r} is not on the page:\n{done.stdout[-5000:]}")
