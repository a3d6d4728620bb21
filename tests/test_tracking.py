"""The record of an experiment: what is written once, torn, told again, kept from secrets; and how trackers come to it."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ocean_emulators.cli.main import main
from ocean_emulators.errors import HIDDEN, Interrupted, UserError
from ocean_emulators.tracking.base import TRACKERS, Copy
from ocean_emulators.tracking.delivery import Delivery
from ocean_emulators.tracking.events import Begin, End, Event, File, Metrics, Model, Tags, Text, from_line, to_line
from ocean_emulators.tracking.machine import sampling
from ocean_emulators.tracking.open import VARIABLE, chosen_trackers, open_record, require_trackers
from ocean_emulators.tracking.provenance import Provenance
from ocean_emulators.tracking.record import About, EventReader, RunFolder, runs_in
from ocean_emulators.tracking.writing import Record, valid_name, writing_record
from tests.disks import fill, small_disk

WHAT = Provenance({"a": 1}, "data")


@contextmanager
def recorded(home: Path) -> Iterator[Record]:
    with writing_record("test", WHAT, home) as record:
        yield record


def events_of(home: Path) -> list[Event]:
    with EventReader(RunFolder.of(WHAT.key, home)) as reader:
        return [*reader.rest()]


def numbers_of(home: Path) -> dict[int, dict[str, float]]:
    told: dict[int, dict[str, float]] = {}
    for event in events_of(home):
        if isinstance(event.what, Metrics):
            step = told.setdefault(event.what.step, {})
            assert not step.keys() & event.what.values.keys(), "nothing twice"
            step.update(event.what.values)
    return told


# The record


@pytest.mark.parametrize(
    "what",
    [
        Begin("train"),
        End("train", "killed"),
        Metrics({"loss": 0.1 + 0.2, "big": 1e308, "inf": math.inf, "low": -math.inf}, 7),
        File("figures/a.png", "0" * 64),
        Model("/out/checkpoint.pt", "0" * 64, "1" * 32),
        Text("a\nb 中 \u2028"),
        Tags({"host": "ü"}),
    ],
)
def test_a_line_says_all_in_strict_json(what: Begin) -> None:
    line = to_line(Event(123, what))
    assert line.count(b"\n") == 1
    json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert from_line(line) == Event(123, what)


def test_what_is_not_a_number_survives() -> None:
    read = from_line(to_line(Event(1, Metrics({"loss": math.nan}, 1))))
    assert read
    assert isinstance(read.what, Metrics)
    assert math.isnan(read.what.values["loss"])


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b'{"at":1}', b'{"at":1,"event":"moon"}', b'{"at":1,"event":"begin"}']
)
def test_other_lines_are_none(line: bytes) -> None:
    assert from_line(line + b"\n") is None


def test_what_an_experiment_is_stands_there_once(tmp_path: Path) -> None:
    for _ in range(2):
        with recorded(tmp_path) as record, record.stage("train"):
            record.log_metrics({"loss": 1.0}, 1)
    (run,) = runs_in(tmp_path)
    assert run.folder == tmp_path / "runs" / WHAT.key[:16]
    about = run.about()
    assert about
    assert (about.key, about.name, about.config) == (WHAT.key, "test", {"a": 1})
    assert about.tags["experiment.key"] == WHAT.key
    assert [event.what for event in events_of(tmp_path)] == [
        Begin("train"), Metrics({"loss": 1.0}, 1), End("train", "done"), Begin("train"), End("train", "done"),
    ]  # fmt: skip


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_line_is_left_out_and_written_over(tmp_path: Path, cut: int) -> None:
    with recorded(tmp_path) as record:
        for step in range(3):
            record.log_metrics({"loss": 1.0 / 3, "other": 2.0}, step)
    path = RunFolder.of(WHAT.key, tmp_path).events
    path.write_bytes(path.read_bytes()[:-cut])
    assert [*numbers_of(tmp_path)] == [0, 1]
    with recorded(tmp_path) as record:
        for step in range(4):
            record.log_metrics({"loss": 1.0 / 3, "other": 2.0}, step)
    assert numbers_of(tmp_path) == {step: {"loss": 1.0 / 3, "other": 2.0} for step in range(4)}
    assert all(from_line(line) for line in path.read_bytes().splitlines(keepends=True))


def test_a_damaged_line_is_told_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with recorded(tmp_path) as record:
        for step in range(3):
            record.log_metrics({"loss": 1.0}, step)
    path = RunFolder.of(WHAT.key, tmp_path).events
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\0" * 20 + b"\n" + lines[2])
    with recorded(tmp_path):
        assert "events.jsonl: 1 line(s) are damaged and left out" in capsys.readouterr().err
    assert [*numbers_of(tmp_path)] == [0, 2]


def test_numbers_that_are_told_again_stand_there_once(tmp_path: Path) -> None:
    """As a training tells them that was killed and goes on from an earlier state."""
    with recorded(tmp_path) as record:
        record.log_metrics({"loss": 1.0}, 1)
        record.log_metrics({"loss": 2.0, "val": 3.0}, 2)
    with recorded(tmp_path) as record:
        record.log_metrics({"loss": 1.5, "machine": 4.0}, 1)
        record.log_metrics({"loss": 2.5}, 2)
        record.log_metrics({"loss": 3.5}, 3)
    assert numbers_of(tmp_path) == {1: {"loss": 1.0, "machine": 4.0}, 2: {"loss": 2.0, "val": 3.0}, 3: {"loss": 3.5}}


def test_a_file_is_kept_and_its_change_too(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    for content in ("a", "a", "b"):
        table.write_text(content)
        with recorded(tmp_path) as record:
            record.log_file(table, "scores")
    table.unlink()
    assert len([event for event in events_of(tmp_path) if isinstance(event.what, File)]) == 2
    assert (RunFolder.of(WHAT.key, tmp_path).files / "scores/table.csv").read_text() == "b"


def test_the_record_tells_which_stages_are_done(tmp_path: Path) -> None:
    with recorded(tmp_path) as record:
        with record.stage("train"):
            assert record.stages_done() == set()
        assert record.stages_done() == {"train"}
        for error, outcome in ((ValueError(), "failed"), (Interrupted(), "stopped"), (KeyboardInterrupt(), "stopped")):
            with pytest.raises(type(error)), record.stage("evaluate"):
                raise error
            assert events_of(tmp_path)[-1].what == End("evaluate", outcome)
    with recorded(tmp_path) as record:
        assert record.stages_done() == {"train"}


KILLED = """
import os, signal, sys
from pathlib import Path
from ocean_emulators.tracking.provenance import Provenance
from ocean_emulators.tracking.writing import writing_record
with writing_record("test", Provenance({"a": 1}, "data"), Path(sys.argv[1])) as record, record.stage("train"):
    record.log_metrics({"loss": 1.0}, 1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_stage_that_was_killed_has_ended_for_the_next_one(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env={**os.environ, "DVC_ROOT": ""})
    assert done.returncode == -signal.SIGKILL
    with recorded(tmp_path) as record, record.stage("train"):
        record.log_metrics({"loss": 2.0}, 1)
    outcomes = [event.what.outcome for event in events_of(tmp_path) if isinstance(event.what, End)]
    assert outcomes == ["killed", "done"]
    assert numbers_of(tmp_path) == {1: {"loss": 1.0}}


def test_a_second_process_waits_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entered, leave = threading.Event(), threading.Event()

    def first() -> None:
        with recorded(tmp_path) as record:
            entered.set()
            leave.wait(60)
            record.log_metrics({"loss": 1.0}, 1)

    def second() -> None:
        with recorded(tmp_path) as record:
            record.log_metrics({"loss": 2.0}, 1)

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert entered.wait(60)
    threads[1].start()
    until(lambda: "waiting for it" in capsys.readouterr().err)
    leave.set()
    for thread in threads:
        thread.join(60)
    assert numbers_of(tmp_path) == {1: {"loss": 1.0}}


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    with recorded(tmp_path) as record:

        def write(number: int) -> None:
            for step in range(50):
                record.log_metrics({f"m{number}/{k}": float(step) for k in range(50)}, step)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(len(numbers) == 200 for numbers in numbers_of(tmp_path).values())
    assert len(numbers_of(tmp_path)) == 50


def test_a_full_disk_ends_no_work_and_what_is_told_again_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "small", "size=1m"), recorded(tmp_path / "small") as record:
        record.log_metrics({"loss": 1.0}, 1)
        fill(tmp_path / "small")
        for step in range(2, 200):
            record.log_metrics({f"loss {k}": 1.0 for k in range(100)}, step)
        (tmp_path / "small/rest").unlink()
        for step in range(2, 200):
            record.log_metrics({f"loss {k}": 1.0 for k in range(100)}, step)
        assert [*numbers_of(tmp_path / "small")] == [*range(1, 200)]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert re.match(r"warning: the record takes nothing: .*events.jsonl: no space left on device; free .*", said[0])


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("train/mean/loss", "train/mean/loss"),
        ("loss (°C)", "loss __C_"),
        ("a//b/../c/", "a/b/c"),
        ("..", "_"),
        ("x" * 300, "x" * 250),
    ],
)
def test_names_are_valid_everywhere(name: str, valid: str) -> None:
    assert valid_name(name) == valid


def test_no_secret_gets_into_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "S3CRET-VALUE")
    secret = Provenance({"data": {"source": ["https://me:PASSW0RD@host/x?token=T0KEN", "S3CRET-VALUE"]}}, "data")
    with writing_record("test", secret, tmp_path) as record:
        record.tag({"place": "https://me:PASSW0RD@host/"})
        record.describe("see s3://PASSW0RD@bucket and S3CRET-VALUE")
        record.log_text("a = 1\nkey = S3CRET-VALUE\n", "code/changes.diff")
    text = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert HIDDEN in text
    assert "a = 1" in text
    for word in ("PASSW0RD", "S3CRET", "T0KEN"):
        assert word not in text


def test_text_in_whatever_encoding_stays_as_it_is(tmp_path: Path) -> None:
    data = "Größe\r\n".encode("latin-1") + b"\n"
    with recorded(tmp_path) as record:
        record.log_text(data, "code/changes.diff")
        assert (record.run.files / "code/changes.diff").read_bytes() == data


def test_the_machine_is_sampled(tmp_path: Path) -> None:
    with recorded(tmp_path) as record:
        with sampling(record, every_s=0.01):
            until(lambda: bool(numbers_of(tmp_path)))
        (numbers, *_) = numbers_of(tmp_path).values()
        assert 0 < numbers["system/process_memory_gib"] < 1000
        assert 0 <= numbers["system/cpu_percent"] <= 100


# Trackers


class Memory:
    """A tracker in this process, which can be away."""

    address = "memory"

    def __init__(self, home: Path) -> None:
        self.away, self.id, self.taken = False, "first", list[tuple[int, Event]]()
        self.before: Callable[[], None] = lambda: None
        self.opened: list[str | None] = []

    def require(self) -> None:
        """It can be used."""

    def open(self, about: About, files: Path, known: str | None) -> Copy:
        self.opened.append(known)
        return self

    def take(self, events: Sequence[Event], first: int) -> None:
        self.before()
        if self.away:
            raise ConnectionError("no route to https://me:PASSW0RD@host")
        self.taken += enumerate(events, first)

    def close(self) -> None:
        """It holds nothing."""


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    tracker = Memory(tmp_path)
    TRACKERS.register("memory")(lambda home: tracker)
    monkeypatch.setenv(VARIABLE, "memory")
    try:
        yield tracker
    finally:
        TRACKERS.remove("memory")


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def all_of(home: Path) -> list[tuple[int, Event]]:
    return [*enumerate(events_of(home))]


def test_a_tracker_gets_all_once_and_in_order(tmp_path: Path, memory: Memory) -> None:
    for part in range(2):
        with open_record("test", WHAT, tmp_path) as record, record.stage("train"):
            for step in range(300 * part, 300 * (part + 1)):
                record.log_metrics({"loss": float(step)}, step)
    assert memory.taken == all_of(tmp_path)
    assert memory.opened == [None, "first"]


def test_work_does_not_wait_for_a_tracker(tmp_path: Path, memory: Memory) -> None:
    """It hangs until all is recorded."""
    all_told = threading.Event()
    memory.before = lambda: all_told.wait(60) or None
    with open_record("test", WHAT, tmp_path) as record:
        for step in range(10):
            record.log_metrics({"loss": 1.0}, step)
        assert [*numbers_of(tmp_path)] == [*range(10)]
        assert not memory.taken
        all_told.set()
    assert memory.taken == all_of(tmp_path)


def test_a_tracker_that_hangs_is_left_behind(
    tmp_path: Path, memory: Memory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocean_emulators.tracking.open._PATIENCE_S", 0.2)
    for_ever = threading.Event()
    memory.before = lambda: for_ever.wait(60) or None
    with open_record("test", WHAT, tmp_path) as record:
        record.log_metrics({"loss": 1.0}, 1)
    for_ever.set()
    assert (
        "WARNING: memory (memory) takes longer than the work may wait for. The work goes on" in capsys.readouterr().err
    )


def test_a_tracker_that_is_away_is_told_of_once_without_secrets_and_gets_all_later(
    tmp_path: Path, memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.away = True
    with open_record("test", WHAT, tmp_path) as record:
        for step in range(3):
            record.log_metrics({"loss": 1.0}, step)
            time.sleep(0.5)
    said = capsys.readouterr().err
    assert said.count("WARNING") == 1
    assert f"no route to https://{HIDDEN}@host" in said
    assert str(record.run.folder) in said
    assert not memory.taken
    memory.away = False
    with closing(Delivery("memory", memory, record.run, record.about)) as delivery:
        assert delivery.deliver() == len(memory.taken) > 3
        assert delivery.deliver() == 0
    assert memory.taken == all_of(tmp_path)


def test_a_copy_that_was_removed_is_made_again_as_a_whole(tmp_path: Path, memory: Memory) -> None:
    with open_record("test", WHAT, tmp_path) as record:
        record.log_metrics({"loss": 1.0}, 1)
    memory.id, memory.taken = "second", []
    with open_record("test", WHAT, tmp_path) as record:
        record.log_metrics({"loss": 2.0}, 2)
    assert memory.opened == [None, "first"]
    assert memory.taken == all_of(tmp_path)


def test_a_delivery_sees_what_another_has_delivered(tmp_path: Path, memory: Memory) -> None:
    with recorded(tmp_path) as record:
        record.log_metrics({"loss": 1.0}, 1)
        one, other = (Delivery("memory", memory, record.run, record.about) for _ in range(2))
        assert one.deliver() == 1
        record.log_metrics({"loss": 1.0}, 2)
        assert other.deliver() == 1
        record.log_metrics({"loss": 1.0}, 3)
        assert one.deliver() == 1
        one.close()
        other.close()
    assert memory.taken == all_of(tmp_path)


def test_an_error_of_the_work_is_what_is_raised(tmp_path: Path, memory: Memory) -> None:
    memory.away = True
    refused = pytest.raises(UserError, match="the disk is full")
    with refused, open_record("test", WHAT, tmp_path) as record, record.stage("train"):
        raise UserError("the disk is full")
    assert events_of(tmp_path)[-1].what == End("train", "failed")


def test_several_trackers_or_none(tmp_path: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "memory, mlflow")
    assert [*chosen_trackers(tmp_path)] == ["memory", "mlflow"]
    monkeypatch.setenv(VARIABLE, "none")
    with open_record("test", WHAT, tmp_path) as record:
        record.log_metrics({"loss": 1.0}, 1)
    assert numbers_of(tmp_path) == {1: {"loss": 1.0}}
    assert not memory.taken


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({VARIABLE: "mlflow,wandbb"}, r"found 'wandbb': no such tracker; did you mean 'wandb'\?"),
        (
            {VARIABLE: "mlflow", "MLFLOW_TRACKING_URI": "htp://host:5000"},
            "MLFLOW_TRACKING_URI: found 'htp://host:5000'",
        ),
        ({VARIABLE: "mlflow", "MLFLOW_TRACKING_URI": "/some/mlruns"}, "MLflow keeps no runs there"),
        (
            {VARIABLE: "wandb", "WANDB_MODE": "online", "NETRC": "/none"},
            "wandb: there is no key for https://api.wandb.ai",
        ),
    ],
)
def test_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        require_trackers(tmp_path)


# The command


def test_runs_are_listed_and_sent(
    project: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["runs"])
    assert "no runs in" in capsys.readouterr().out
    memory.away = True
    with recorded(project) as record, record.stage("train"):
        record.log_metrics({"loss": 1.0}, 1)
    main(["runs"])
    assert re.fullmatch(rf"{WHAT.key[:8]}  [-\d]+ [:\d]+  test +- +train +none\n", capsys.readouterr().out)
    with pytest.raises(SystemExit) as end:
        main(["runs", "sync"])
    assert end.value.code == 1
    said = capsys.readouterr()
    assert f"error: memory (memory) takes nothing: no route to https://{HIDDEN}@host; run this again" in said.err
    assert "memory: not sent" in said.out
    memory.away = False
    for words in ("memory: 3 sent", "memory: has all"):
        main(["runs", "sync", WHAT.key[:4]])
        assert words in capsys.readouterr().out
    assert memory.taken == all_of(project)
    with recorded(project):
        main(["runs", "sync", "test"])
    assert "memory: is being written" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["runs", "sync", "moon"])
    assert "no run 'moon'" in capsys.readouterr().err
