"""A probe: what it finds of a training, and what is told of it."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from launchers.config import Inline, LaunchConfig, Slurm
from launchers.estimate import training_lines
from launchers.probe import lines
from ocean_emulators.config.base import parse
from ocean_emulators.experiment import Experiment
from ocean_emulators.jobs.probe import Probed, ProbeJob
from ocean_emulators.outlook import look_again
from ocean_emulators.plan import Plan, plan_of
from ocean_emulators.programs import USER_ERROR
from ocean_emulators.runtime import Runtime
from ocean_emulators.train.trainer import Trainer
from ocean_emulators.workspace import Workspace
from tests import tiny


@pytest.fixture
def plan(workspace: Workspace) -> Plan:
    experiment = parse(Experiment, tiny.experiment(workspace.root / "tiny.zarr", epochs=5), "tiny")
    return plan_of(experiment, look_again(experiment, workspace))


def test_a_probe_tries_the_longest_rollouts(plan: Plan, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    inner = Trainer.train_batch

    def outer(self: Trainer, batch: Any) -> Any:
        seen.append(batch.prognostic.shape[1] - 1)
        return inner(self, batch)

    monkeypatch.setattr(Trainer, "train_batch", outer)
    job = ProbeJob(plan.experiment.training, workspace, Runtime(device="cpu"), workspace.scratch / "probe", 4)
    job.run(lambda metrics, step: pytest.fail("a probe reports nothing"))
    found = Probed.load(job.found)
    assert seen == [2] * 4
    assert (found.processes, found.steps, found.device, found.device_gib) == (1, 4, "CPU", [])
    assert found.training_steps == 3 * 10 + 2 * 9
    assert plan.optimiser_steps == 5 * 9
    assert 0 < found.waiting_s < found.step_s < found.start_s + found.first_step_s
    assert 0 < found.state_gib < found.machine_gib[0]
    assert not list(workspace.scratch.glob("train-*")), "a training begins anew"


def test_a_probe_that_waits_for_ever_ends_and_says_where() -> None:
    program = """
import time
from ocean_emulators.jobs.probe import _patient
def reading():
    time.sleep(60)
with _patient(0.2):
    reading()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50)
    assert done.returncode == USER_ERROR
    assert "error: no step was done within 0.2 s" in done.stderr
    assert "in reading" in done.stderr


FOUND = Probed(4, "GPU", 10, 12.0, 30.0, 2.0, 0.1, [9.1, 9.2], 80.0, [3.0, 3.1], 0.4, 36_000, [])


@pytest.mark.parametrize(
    ("config", "found", "expected"),
    [
        (
            Slurm(processes=4, gpus=1, hours=8.0),
            FOUND,
            ["20 h without", "80 GPU hours", "requeued 2 time(s)", "9.2 GiB of a"],
        ),
        (Slurm(processes=4, hours=24.0), replace(FOUND, device_gib=[]), ["20 h without", "up to 3.1 GiB a process"]),
        (Inline(), FOUND, ["5% of it waiting for data", "a first step of 30.00 s, then 2 s a step"]),
    ],
)
def test_what_follows_from_it_is_told(config: LaunchConfig, found: Probed, expected: list[str], plan: Plan) -> None:
    told = "\n".join(lines(found, plan, config))
    assert all(part in told for part in expected)
    assert ("requeued" in told) == (isinstance(config, Slurm) and config.hours < 20)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"gpus": 1, "processes": 2}, "GPU hours where a GPU makes 100 TFLOP/s"),
        ({"processes": 2, "memory_gib": 1e-3}, "warning: the 2 process(es) of a node take about"),
        ({"gpus": 1, "memory_gib": 1.0}, "of each process's GPU"),
    ],
)
def test_what_a_training_takes_is_estimated(options: Mapping[str, Any], told: str, plan: Plan) -> None:
    assert told in "\n".join(training_lines(plan, Slurm(**options)))


def test_the_arithmetic_of_a_training_is_that_of_its_steps(plan: Plan) -> None:
    """Rollouts of one step for two epochs of five, then of two: equal shares, the first phase no shorter."""
    windows, of_step = plan.outlook.windows["train"], plan.cost.training_flops
    assert plan.training_flops == windows * of_step * (3 * 1 + 2 * 2)
    assert plan.training_gib(4) < plan.training_gib(1) == plan.memory_gib["training"]
