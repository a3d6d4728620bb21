"""Records and their copies in real trackers: MLflow's database and server, and W&B's files."""

import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from wandb.proto import wandb_internal_pb2

from ocean_emulators.errors import UserError
from ocean_emulators.tracking.delivery import Delivery
from ocean_emulators.tracking.mlflow import own_store
from ocean_emulators.tracking.open import VARIABLE, chosen_trackers, open_record, require_trackers
from ocean_emulators.tracking.provenance import Provenance
from ocean_emulators.tracking.record import RunFolder
from ocean_emulators.tracking.writing import Record
from tests.disks import small_disk
from tests.integration.conftest import ENVIRONMENT, Project
from tests.integration.mlflow_server import Server, running_server, until

WHAT = Provenance({"a": 1, "deep": {"b": [1, 2]}}, "data", {"data.train": 64 * "0"})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(tmp_path) as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, whose records go to its own store."""
    monkeypatch.setenv(VARIABLE, "mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "home/.dvc").mkdir(parents=True)
    return tmp_path / "home"


def train(home: Path, steps: range, what: Provenance = WHAT) -> Record:
    """Record a training of some steps."""
    with open_record("test", what, home) as record, record.stage("train"):
        for step in steps:
            record.log_metrics({"loss": 1.0 / (step + 1), "bad": float("nan")}, step)
    return record


def runs_at(uri: str, name: str = "test") -> list[Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment
    return list(client.search_runs([experiment.experiment_id]))


def steps_at(uri: str, run: Run, name: str = "loss") -> list[int]:
    """Of all that stands there under a name."""
    return sorted(metric.step for metric in MlflowClient(uri).get_metric_history(run.info.run_id, name))


def deliver(home: Path, record: Record) -> int:
    with closing(Delivery("mlflow", chosen_trackers(home)["mlflow"], record.run, record.about)) as delivery:
        return delivery.deliver()


def sync(home: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ocean_emulators.cli", "runs", "sync"]
    return subprocess.run(command, cwd=home, env=ENVIRONMENT | env, capture_output=True, text=True, timeout=120)


# A server


def test_a_server_that_is_killed_and_comes_back_gets_all_once(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By itself while the work goes on, or by `runs sync` after it; and what it is sent again stands there once."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    with open_record("test", WHAT, home) as record, record.stage("train"):

        def log(steps: range) -> None:
            for step in steps:
                record.log_metrics({"loss": float(step), "bad": float("nan")}, step)

        log(range(500))
        until(lambda: bool(list(record.run.folder.glob("*.sent"))))
        server.kill()
        log(range(500, 1000))
        until(lambda: "WARNING" in (said := capsys.readouterr().err) and said.count("WARNING") == 1)
        server.start()
        until(lambda: "answers again, and has all" in capsys.readouterr().err)
        log(range(1000, 1500))
    (run,) = runs_at(server.address)
    assert run.info.status == "FINISHED"
    assert steps_at(server.address, run) == steps_at(server.address, run, "bad") == [*range(1500)]

    server.kill()
    record = train(home, range(1500, 1600))
    assert capsys.readouterr().err.count("WARNING") == 1
    failed = sync(home, MLFLOW_TRACKING_URI=server.address)
    assert failed.returncode == 1
    assert failed.stderr.count("error: ") == 1
    assert "takes nothing" in failed.stderr
    server.start()
    assert "mlflow: 102 sent" in sync(home, MLFLOW_TRACKING_URI=server.address).stdout
    for note in record.run.folder.glob("*.sent"):
        note.unlink()
    assert deliver(home, record) > 1600
    (run,) = runs_at(server.address)
    assert steps_at(server.address, run) == steps_at(server.address, run, "bad") == [*range(1600)]
    assert not (home / "mlflow.db").exists()


def test_a_server_receives_the_run(project: Project, server: Server) -> None:
    project.run("dvc", "exp", "run", "-S", "comparison.seed=9", MLFLOW_TRACKING_URI=server.address)
    (run,) = runs_at(server.address, "tiny")
    assert run.info.status == "FINISHED"
    files = MlflowClient(server.address).list_artifacts(run.info.run_id, "scores")
    assert {file.path for file in files} >= {"scores/comparison.csv"}
    assert not (project.root / "mlflow.db").exists()


def test_a_server_that_is_not_there_costs_seconds(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free.getsockname()[1]}")
    require_trackers(home)
    began = time.monotonic()
    record = train(home, range(10))
    assert time.monotonic() - began < 60, "MLflow's own retries take minutes"
    assert capsys.readouterr().err.count("WARNING") == 1
    assert record.run.contents().done == {"train"}


# A project's own database


def test_a_record_sent_again_stands_there_once(home: Path) -> None:
    record = train(home, range(300))
    (note,) = record.run.folder.glob("*.sent")
    note.unlink()
    assert deliver(home, record) > 300
    (run,) = runs_at(own_store(home))
    assert steps_at(own_store(home), run) == steps_at(own_store(home), run, "bad") == [*range(300)]
    assert run.data.params == {"a": "1", "deep.b": "[1, 2]"}
    assert len(run.inputs.dataset_inputs) == 1


OPEN = """
import sys
from ocean_emulators.tracking import Provenance, open_record
from ocean_emulators.workspace import Workspace
with open_record("many", Provenance({"number": int(sys.argv[1])}, "data"), Workspace.here().home) as record:
    with record.stage("train"):
        record.log_metrics({"loss (°C)": 1.0}, step=3)
    import time
    time.sleep(20)  # the four make the database at the same moment, which takes a while
"""


def test_a_store_is_made_without_a_word(home: Path) -> None:
    """And with the settings that MLflow takes when it is imported."""
    code = f"""
import os
from pathlib import Path
from ocean_emulators.tracking.mlflow import MlflowTracker
from ocean_emulators.tracking.provenance import Provenance
from ocean_emulators.tracking.record import About
MlflowTracker(Path({str(home)!r})).open(About.of("test", Provenance({{}}, "data")), Path(), None)
assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
"""
    environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_several_processes_may_create_the_store(home: Path) -> None:
    commands = [[sys.executable, "-c", OPEN, str(number)] for number in range(4)]
    processes = [subprocess.Popen(command, cwd=home, env=ENVIRONMENT) for command in commands]
    assert [process.wait(timeout=200) for process in processes] == [0, 0, 0, 0]
    assert "has all" in sync(home).stdout
    runs = runs_at(own_store(home), "many")
    assert sorted(run.data.params["number"] for run in runs) == ["0", "1", "2", "3"]
    assert all(run.data.metrics["loss __C_"] == 1.0 for run in runs)


def test_a_run_that_was_deleted_is_written_anew_as_a_whole(home: Path) -> None:
    train(home, range(5))
    (first,) = runs_at(own_store(home))
    MlflowClient(own_store(home)).delete_run(first.info.run_id)
    train(home, range(5, 8))
    (run,) = runs_at(own_store(home))
    assert run.info.run_id != first.info.run_id
    assert steps_at(own_store(home), run) == [*range(8)]


def test_an_experiment_that_was_deleted_costs_no_work(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(home, range(5))
    client = MlflowClient(own_store(home))
    (run,) = runs_at(own_store(home))
    client.delete_experiment(run.info.experiment_id)
    capsys.readouterr()
    train(home, range(5, 8))
    said = capsys.readouterr().err
    assert said.count("WARNING") == 1
    assert "the experiment 'test' was deleted in MLflow; bring it back by `mlflow experiments restore" in said
    client.restore_experiment(run.info.experiment_id)
    assert sync(home).returncode == 0
    (run,) = runs_at(own_store(home))
    assert steps_at(own_store(home), run) == [*range(8)]


def test_a_project_that_was_copied_writes_into_its_own_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(home, range(2))
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    copy = tmp_path / "[copy]*?"
    shutil.copytree(home, copy)
    monkeypatch.setenv(VARIABLE, "none")  # MLflow remembers where runs are, for as long as a process lives
    train(copy, range(2), Provenance({"a": 2}, "data"))
    train(copy, range(2, 4))
    assert sync(copy).returncode == 0
    runs = runs_at(own_store(copy))
    assert len(runs) == 2
    for run in runs:
        assert run.info.artifact_uri.startswith((copy / "mlruns").as_uri() + "/")
        assert MlflowClient(own_store(copy)).list_artifacts(run.info.run_id, "environment")
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def test_a_project_that_was_moved_twice_is_whole(home: Path, tmp_path: Path) -> None:
    train(home, range(2))
    for place in ("second", "third"):
        home = home.rename(tmp_path / place)
        train(home, range(2), Provenance({"a": place}, "data"))
    for run in runs_at(own_store(home)):
        assert run.info.artifact_uri.startswith((home / "mlruns").as_uri() + "/")
        assert MlflowClient(own_store(home)).list_artifacts(run.info.run_id, "environment")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """MLflow's, with a run."""
    home = tmp_path_factory.mktemp("database")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "mlflow")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        train(home, range(2))
    return (home / "mlflow.db").read_bytes()


def foreign(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(statement)
        database.commit()


SPOILT: dict[str, tuple[Callable[[Path, bytes], object], str]] = {
    "garbage": (lambda path, whole: path.write_bytes(b"lost" * 5000), "file is not a database"),
    "cut": (lambda path, whole: path.write_bytes(whole[: len(whole) // 2]), "malformed|damaged"),
    "a hole": (
        lambda path, whole: path.write_bytes(whole[:100_000] + b"\0" * 50_000 + whole[150_000:]),
        "malformed|damaged",
    ),
    "a folder": (lambda path, whole: path.mkdir(), "something else is"),
    "another's": (lambda path, whole: foreign(path, "CREATE TABLE cats (name TEXT)"), "a database, but not MLflow's"),
    "newer": (
        lambda path, whole: (path.write_bytes(whole), foreign(path, "UPDATE alembic_version SET version_num = 'f00'")),
        "written by a newer MLflow",
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_database_that_is_no_good_is_refused_before_any_work(home: Path, database: bytes, kind: str) -> None:
    spoil, message = SPOILT[kind]
    spoil(home / "mlflow.db", database)
    with pytest.raises(UserError, match=message) as error:
        require_trackers(home)
    assert str(error.value).startswith(f"{home / 'mlflow.db'}: ")
    assert "OCEAN_EMULATORS_TRACKER=none" in str(error.value)


def test_a_good_database_is_taken_and_left_as_it_is(home: Path, database: bytes) -> None:
    for content in (database, b""):
        (home / "mlflow.db").write_bytes(content)
        require_trackers(home)
        assert (home / "mlflow.db").read_bytes() == content


def test_a_database_that_is_locked_or_read_only_is_refused(
    home: Path, database: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocean_emulators.tracking.mlflow_database._WAIT_S", 0.5)
    (home / "mlflow.db").write_bytes(database)
    with closing(sqlite3.connect(home / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="database is locked"):
            require_trackers(home)
    with small_disk(home / "small", "size=20m"):
        (home / "small/mlflow.db").write_bytes(database)
        (home / "small/runs").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", home / "small"], check=True)
        with pytest.raises(UserError, match=r"read-?only"):
            require_trackers(home / "small")


def test_a_database_that_goes_bad_in_the_middle_costs_no_work(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = home / "mlflow.db"
    with open_record("test", WHAT, home) as record, record.stage("train"):
        record.log_metrics({"loss": 1.0}, 0)
        until(lambda: bool(list(record.run.folder.glob("*.sent"))))
        whole = path.read_bytes()
        path.write_bytes(b"lost" * (len(whole) // 4))
        for step in range(1, 5):
            record.log_metrics({"loss": 1.0}, step)
    assert capsys.readouterr().err.count("WARNING") == 1
    assert sync(home).returncode == 2, "it is refused"
    path.write_bytes(whole)
    assert sync(home).returncode == 0
    (run,) = runs_at(own_store(home))
    assert (run.info.status, steps_at(own_store(home), run)) == ("FINISHED", [*range(5)])


# Ends that are not ends

SLEEP = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from launchers.jobs import TrackedJob
from ocean_emulators.config.base import parse
from ocean_emulators.experiment import Experiment
from ocean_emulators.programs import ending_well
from ocean_emulators.tracking import Provenance
from ocean_emulators.workspace import Workspace
from tests import tiny

@dataclass(frozen=True)
class Sleeping:
    workspace: Workspace
    folder: Path = Path("nowhere")

    def run(self, report):
        report({"loss": 1.0}, 1)
        while not list(self.workspace.home.glob("runs/*/*.sent")):
            time.sleep(0.1)
        print("ready", flush=True)
        time.sleep(100)

experiment = parse(Experiment, tiny.experiment(), "tiny")
with ending_well():
    TrackedJob("train", Sleeping(Workspace.here()), experiment, Provenance({}, "data"))()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_run_that_was_ended_by_a_signal_is_told_to_be(home: Path, number: signal.Signals, code: int) -> None:
    root = Path(__file__).parents[2]
    environment = ENVIRONMENT | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-c", SLEEP]
    with subprocess.Popen(
        command,
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        # Which is ignored where the tests run in the background of a script.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(60) == code
    if number == signal.SIGKILL:
        assert "sent" in sync(home).stdout
    (run,) = runs_at(own_store(home), "tiny")
    assert run.info.status == "KILLED"
    assert run.info.end_time


# Weights & Biases


HEADER, BLOCK, LAST = 7, 2**15, (1, 4)
"""of W&B's files: records in pieces, within blocks, each piece with checksum, length and kind"""


def read_offline(file: Path) -> list[wandb_internal_pb2.Record]:
    """What is in a file of W&B's, in its own messages."""
    data, place, records, whole = file.read_bytes(), HEADER, [], b""
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + HEADER])
        whole += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in LAST:
            records.append(wandb_internal_pb2.Record.FromString(whole))
            whole = b""
    return records


def test_wandb_gets_the_same_offline(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for steps in (range(3), range(3, 5)):
        with open_record("test", WHAT, home) as record, record.stage("train"):
            for step in steps:
                record.log_metrics({"train/loss": float(step), "bad": float("nan")}, step)
            record.describe("# Scores")
    records = [record for file in sorted(home.glob("wandb/offline-run-*/*.wandb")) for record in read_offline(file)]
    told = [
        {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    assert [(item["step"], item["train/loss"], item["bad"]) for item in told] == [
        (str(step), str(step), "NaN") for step in range(5)
    ]
    assert [int(item["_step"]) for item in told] == sorted({int(item["_step"]) for item in told})
    about = RunFolder.of(WHAT.key, home).about()
    assert about
    assert {told.run.run_id for told in records if told.HasField("run")} == {about.id}
    axes = [record.metric for record in records if record.HasField("metric")]
    assert {(axis.glob_name, axis.step_metric) for axis in axes if axis.glob_name} == {("*", "step")}
    assert list(home.glob("wandb/*/files/environment/packages.txt"))


def test_two_trackers_get_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "mlflow,wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(home, range(3))
    (run,) = runs_at(own_store(home))
    assert steps_at(own_store(home), run) == [0, 1, 2]
    (file,) = home.glob("wandb/offline-run-*/*.wandb")
    assert Counter(record.WhichOneof("record_type") for record in read_offline(file))["history"] == 3
