"""Experiments that DVC runs elsewhere: its queue, two at a time, and training that is interrupted in a copy."""

import json
import os
import signal
import subprocess
import time

import pytest

from ocean_emulators.tracking.record import runs_in
from tests.integration.conftest import ENVIRONMENT, Project, stages_run


def test_two_experiments_of_the_queue_at_once_share_one_store(project: Project) -> None:
    short = ("-S", "train.epochs=1", "-S", "train.rollout_steps=[1]")
    for seed in ("5", "6"):
        project.run("dvc", "exp", "run", "--queue", "-S", f"train.seed={seed}", *short)
    assert project.work_off_queue().count("Success") == 2
    runs = project.runs()
    assert sorted(run.data.params["train.seed"] for run in runs) == ["5", "6"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["stages"] for run in runs} == {"compare evaluate train"}
    assert len({run.data.metrics["forecast/nrmse/all"] for run in runs}) == 2
    assert all(run.info.artifact_uri.startswith((project.root / "mlruns").as_uri()) for run in runs)
    assert not list((project.root / ".dvc" / "tmp").rglob("mlflow.db"))
    assert not list(project.root.glob(".scratch/*/states/*.pt"))


def start_until_first_epoch(project: Project, *command: str) -> None:
    """Run a command, and kill it and its children at once when the first epoch is saved."""
    process = subprocess.Popen(
        command, cwd=project.root, env=ENVIRONMENT, start_new_session=True, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while not list(project.root.glob(".scratch/*/states/*.pt")):
        assert process.poll() is None, "ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)


@pytest.mark.parametrize("change", ["train.seed=5", "train.learning_rate=0.001"])
def test_one_changed_number_begins_anew(project: Project, change: str) -> None:
    """The interrupted training keeps its place, and goes on there when it is asked for again."""
    start_until_first_epoch(project, "dvc", "exp", "run", "-S", "train.epochs=4")
    kept, *_ = project.root.glob(".scratch/*/states/*.pt")
    output = project.run("dvc", "exp", "run", "-S", "train.epochs=4", "-S", change)
    assert "resuming" not in output
    assert "epoch 1/4" in output
    assert kept.is_file()


def test_training_killed_in_a_copy_goes_on_in_another(project: Project) -> None:
    """`--temp` runs in a throw-away clone; what was trained is kept at the original root."""
    change = ("-S", "train.epochs=4", "-S", "train.seed=7")
    start_until_first_epoch(project, "dvc", "exp", "run", "--temp", *change)
    (record,) = runs_in(project.root)  # trackers may have had nothing of it yet
    assert record.contents().running == "train"
    output = project.run("dvc", "exp", "run", "--temp", *change)
    assert "resuming after epoch" in output
    assert stages_run(output) == ["train", "evaluate", "compare"]
    (run,) = project.runs()
    assert (about := record.about())
    assert (run.data.tags["record.id"], run.info.status) == (about.id, "FINISHED")
    history = project.client().get_metric_history(run.info.run_id, "train/mean/loss")
    assert sorted({metric.step for metric in history}) == [1, 2, 3, 4], "an epoch is missing from the record"
    shown = json.loads(project.run("dvc", "exp", "show", "--json"))
    assert "7" in json.dumps(shown)
