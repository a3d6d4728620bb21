"""Interrupted training goes on where it was, and never from another experiment's weights."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests import tiny
from tests.integration.conftest import ENVIRONMENT, Project, stages_run

EPOCHS = 25


def history(project: Project) -> str:
    return (project.root / "outputs/train/history.csv").read_text()


def interrupt(project: Project, how: signal.Signals) -> str:
    """Start `dvc repro` and stop it and its children once the first epochs are saved; what was printed."""
    log = project.root / ".scratch" / "interrupted.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as printed:
        process = subprocess.Popen(
            ["dvc", "repro"],
            cwd=project.root,
            env=ENVIRONMENT,
            start_new_session=True,
            stdout=printed,
            stderr=subprocess.STDOUT,
            # A shell that starts tests in the background lets them ignore interruptions, and they their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    deadline = time.monotonic() + 200
    while not list(project.root.glob(".scratch/*/states/*.pt")):
        assert process.poll() is None, "ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, how)
    process.wait(timeout=60)
    return log.read_text()


@pytest.fixture
def long(done: Project, tmp_path: Path) -> Project:
    """A project whose training takes long enough to be interrupted."""
    project = done.copy(tmp_path / "long")
    project.configure(tiny.experiment(epochs=EPOCHS))
    project.commit("Train for longer")
    return project


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_training_ends_as_if_it_had_not_been(long: Project, how: signal.Signals, tmp_path: Path) -> None:
    whole = long.copy(tmp_path / "whole")
    whole.run("dvc", "repro")
    said = interrupt(long, how)
    if how == signal.SIGINT:
        assert "interrupted: stopped by SIGINT in epoch " in said
        assert "; `dvc repro` goes on where it was" in said
        assert "Traceback" not in said
        assert len(said.split("interrupted: ")[1].splitlines()) < 5
    output = long.run("dvc", "repro")
    assert "resuming after epoch" in output
    assert stages_run(output) == ["train", "evaluate", "compare"]
    assert history(long) == history(whole)
    scores = [(p.root / "outputs/evaluation/scores.json").read_text() for p in (long, whole)]
    assert scores[0] == scores[1]
    assert not list(long.root.glob(".scratch/*/states/*.pt"))
    (run,) = long.runs()
    assert run.info.status == "FINISHED"
    steps = [m.step for m in long.client().get_metric_history(run.info.run_id, "train/mean/loss")]
    assert sorted(set(steps)) == list(range(1, EPOCHS + 1))


def test_another_experiment_never_begins_from_interrupted_weights(long: Project) -> None:
    interrupt(long, signal.SIGKILL)
    output = long.run("dvc", "exp", "run", "-S", "model.width=5", "-S", "train.epochs=2")
    assert "resuming" not in output
    assert "epoch 1/2" in output
