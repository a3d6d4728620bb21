"""What a training says of the machine: time by part, share of the device's peak, a trace, and its speed on one batch."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from ocean_emulators.config.base import parse
from ocean_emulators.cost import cost_of_model_step, training_flops
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment
from ocean_emulators.jobs.base import results_of
from ocean_emulators.jobs.train import TrainJob
from ocean_emulators.runtime import Runtime
from ocean_emulators.train.ledger import PARTS, Ledger
from ocean_emulators.train.parts import Reports
from ocean_emulators.train.throughput import Throughput, peak_flops_per_second
from ocean_emulators.workspace import Workspace
from tests import tiny
from tests.samudras import ocean, small
from tests.trainers import trainer_of

FIGURES = {f"train/time/{part}" for part in (*PARTS, "other")}


@pytest.fixture
def grid(store: PackedStore, statistics: Statistics) -> PreparedGrid:
    return PreparedGrid.of("x1", store, statistics)


def experiment(**train: Any) -> Experiment:
    return parse(Experiment, tiny.experiment(**{"rollout_steps": [1], "epochs": 2, **train}), "tiny")


def test_the_tracker_hears_of_time_and_the_history_does_not(grid: PreparedGrid, tmp_path: Path) -> None:
    told: list[dict[str, float]] = []
    trainer = trainer_of(experiment(), [grid], tmp_path, Reports(lambda number, logs: told.append(logs)))
    trainer.run()
    for logs in told:
        assert logs.keys() >= FIGURES
        assert logs["train/time/compute"] > 0
    assert not FIGURES & (set(trainer.logged) | trainer.place.history[0].keys())
    spent = sum(logs[name] for logs in told for name in FIGURES)
    assert spent == pytest.approx(trainer.ledger.total, rel=0.2)
    assert told[1]["train/time/start"] == 0


def test_arithmetic_is_counted_by_grid_and_epoch() -> None:
    ledger, asked = Ledger(), []

    def flops(name: str) -> int:
        asked.append(name)
        return {"x1": 100, "x2": 10}[name]

    throughput = Throughput(flops, lambda: 200.0, after_s=0)
    throughput.begin()
    for seconds in (2.0, 4.0):
        throughput.count("x1", 3)
        throughput.count("x2", 10)
        throughput.count("x1", 1)
        ledger.seconds["compute"] += seconds
        logs = throughput.logs(ledger)
        assert logs["train/compute/flops_per_second"] == pytest.approx(500 / seconds)
        assert logs["train/compute/share_of_peak"] == pytest.approx(500 / seconds / 200)
    assert sorted(asked) == ["x1", "x2"]
    assert "train/compute/flops_per_second" not in throughput.logs(ledger)


def test_a_short_training_does_not_wait_for_the_count() -> None:
    def never(*_: str) -> int:
        raise AssertionError

    ledger, throughput = Ledger(), Throughput(never, lambda: 1.0)
    throughput.count("x1", 1)
    ledger.seconds["compute"] = 299.0
    assert throughput.logs(ledger).keys() == FIGURES


def test_the_count_is_that_of_the_plan_and_draws_no_random_number() -> None:
    oceans, before = [ocean(3, 1, 18, 36)], torch.get_rng_state()
    assert training_flops(small(), oceans) == cost_of_model_step(small(), oceans).training_flops
    assert peak_flops_per_second(torch.device("cpu"), "bfloat16", 64) > 0
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("batch_size", [16, 145])
def test_a_trace_of_some_steps_is_written(
    grid: PreparedGrid, tmp_path: Path, batch_size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where there are fewer steps than it should be of."""
    runtime = Runtime(device="cpu", profile=True)
    trainer_of(experiment(epochs=4, batch_size=batch_size), [grid], tmp_path / "states", runtime=runtime).run()
    assert f"{tmp_path}/trace.json" in capsys.readouterr().out
    names = {event.get("name") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert any("convolution" in str(name) for name in names)


def test_one_batch_is_trained_on_again_and_again(grid: PreparedGrid, tmp_path: Path) -> None:
    def shown(repeat: bool, folder: str) -> list[list[int]]:
        runtime = Runtime(device="cpu", repeat_batch=repeat)
        config = experiment(rollout_steps=[1, 2], rollout_probabilities=[0.5, 0.5])
        trainer = trainer_of(config, [grid], tmp_path / folder, runtime=runtime)
        inner, seen = trainer.stepper.train_batch, []

        def outer(batch: Any, steps: int, *more: Any) -> Any:
            seen.append([*batch.draw.indices])
            assert batch.prognostic.shape[1] == steps + 1
            return inner(batch, steps, *more)

        trainer.stepper.train_batch = outer  # type: ignore[method-assign]
        trainer.run(epochs=1)
        return seen

    ordinary, repeated = shown(False, "a"), shown(True, "b")
    assert repeated == [ordinary[0]] * len(ordinary)
    assert ordinary[1] != ordinary[0]


def test_nothing_comes_out_of_a_job_on_one_batch(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[int] = []
    config = parse(Experiment, tiny.experiment(workspace.root / "tiny.zarr", seed=77), "tiny")
    job = TrainJob.of(config.training, workspace, Runtime(device="cpu", repeat_batch=True))
    with pytest.raises(UserError, match=r"samples/s.* of the device's peak.*No emulator comes out"):
        job.run(lambda metrics, step: reported.append(step))
    assert not reported
    assert not results_of(job).exists()
    assert not list(job.folder.glob("**/*.pt"))
    TrainJob(config.training, workspace, Runtime(device="cpu"), job.folder).run(
        lambda metrics, step: reported.append(step)
    )
    assert reported[-1] == 2
    assert len(pd.read_csv(results_of(job) / "history.csv")) == 2
