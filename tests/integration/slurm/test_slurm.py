"""Training and evaluation as jobs of a real SLURM: their results, and what a user sees of each way in which a job can end."""

import io
import os
import pty
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from launchers.submitted import jobs_in
from tests import tiny
from tests.integration.conftest import Project, stages_run
from tests.integration.slurm.cluster import Cluster
from tests.integration.slurm.stages import (
    EPOCHS,
    LAUNCH,
    RUNTIME,
    SLURM,
    Stage,
    environment,
    prepared,
    ranks_of,
    same_weights,
    train_here,
)


@pytest.fixture(scope="module")
def ready(fresh: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Not to be changed."""
    return prepared(fresh, tmp_path_factory.mktemp("ready") / "project")


def test_dvc_repro_trains_and_evaluates_on_the_cluster(project: Project, cluster: Cluster, of_local: Project) -> None:
    output = project.run("dvc", "repro", **environment(cluster, "mlflow"))
    print(output)
    assert stages_run(output) == ["train", "evaluate", "compare"]
    assert f"epoch {EPOCHS}/{EPOCHS}" in output
    same_weights(project, of_local)
    stages = {job.stage: job for job in jobs_in(project.root / ".scratch/jobs")}
    assert set(stages) == {"train", "evaluate"}
    logs = list(project.root.glob(f".scratch/jobs/{stages['train'].id}_*_log.*"))
    assert len(logs) == 4, "of each process, what it prints and what it complains of"
    (run,) = project.runs()
    assert run.info.status == "FINISHED"
    assert "Data and pipelines are up to date" in project.run("dvc", "repro", **environment(cluster))


def test_a_preempted_job_is_requeued_and_ends_as_if_nothing_had_happened(
    start: Callable[..., Stage], cluster: Cluster, of_local: Project
) -> None:
    stage = start()
    stage.until_saved()
    cluster.ask("sbatch", "--partition=high", "--ntasks=2", "--output=/dev/null", "--wrap=sleep 3")
    stage.end(0)
    assert "stopped by SIG" in stage.job.errors.read_text()
    assert "requeued 1 times" in stage.said
    assert "resuming after epoch" in stage.said
    same_weights(stage.project, of_local)


def test_a_job_that_reaches_its_time_limit_is_requeued(
    start: Callable[..., Stage], project: Project, tmp_path: Path
) -> None:
    """A minute is the shortest limit, of which it is told after ten seconds, or when SLURM looks next."""
    project.configure(tiny.experiment(epochs=3 * EPOCHS, rollout_steps=[1], input_noise=0.2))
    whole = project.copy(tmp_path / "whole")
    stage = start(hours=1 / 60, grace_s=50)
    stage.end(0, 300)
    assert "requeued 1 times" in stage.said
    assert "resuming after epoch" in stage.said
    same_weights(project, train_here(whole, 2))


def test_a_job_that_is_told_to_stop_while_it_starts_is_requeued(
    start: Callable[..., Stage], cluster: Cluster, of_local: Project
) -> None:
    """Before its processes have imported what they need."""
    stage = start()
    stage.until(lambda: (stage.project.root / ".scratch/jobs").exists() and cluster.jobs())
    stage.until(lambda: "RUNNING" in cluster.ask("squeue", "--noheader", "--format", "%T"))
    time.sleep(0.5)
    cluster.ask("scancel", "--signal=USR2", *cluster.jobs())
    stage.end(0)
    assert "requeued 1 times" in stage.said
    same_weights(stage.project, of_local)


def test_a_job_that_is_requeued_too_often_is_given_up(start: Callable[..., Stage], cluster: Cluster) -> None:
    stage = start(requeues=0)
    stage.until_saved()
    cluster.ask("scancel", "--signal=USR2", stage.job.id)
    stage.end(2)
    assert "it was requeued 0 times, as often as `requeues` allows" in stage.said


def test_a_cancelled_job_ends_the_stage_and_the_next_goes_on(
    start: Callable[..., Stage], cluster: Cluster, of_local: Project
) -> None:
    stage = start()
    stage.until_saved()
    began = time.monotonic()
    cluster.ask("scancel", stage.job.id)
    stage.end(2, 30)
    print(f"seen after {time.monotonic() - began:.1f} s")
    assert f"job {stage.job.id} (train) was cancelled" in stage.said
    cluster.until_idle()
    again = start()
    again.end(0)
    assert "resuming after epoch" in again.said
    same_weights(stage.project, of_local)


def test_a_killed_rank_ends_the_job(start: Callable[..., Stage], cluster: Cluster, of_local: Project) -> None:
    stage = start()
    stage.until_saved()
    began = time.monotonic()
    os.kill(ranks_of(stage.job)[1].pid, signal.SIGKILL)
    stage.end(2, 30)
    print(f"seen after {time.monotonic() - began:.1f} s")
    assert "process 2 of 2" in stage.said
    assert "SIGKILL" in stage.said
    cluster.until_idle()
    again = start()
    again.end(0)
    same_weights(stage.project, of_local)


def test_a_drained_node_lets_its_job_end_and_the_next_one_waits(
    start: Callable[..., Stage], cluster: Cluster, of_local: Project
) -> None:
    stage = start()
    stage.until_saved()
    cluster.drain()
    stage.end(0)
    same_weights(stage.project, of_local)


def test_a_job_waits_for_a_drained_node_and_says_why(
    start: Callable[..., Stage], cluster: Cluster, of_local: Project
) -> None:
    """What `params.yaml` says meanwhile does not matter to it; but its result is not put into place as the new value's."""
    cluster.drain()
    stage = start()
    stage.until(lambda: "pending (ReqNodeNotAvail, UnavailableNodes" in stage.said)
    params = stage.project.params()
    params["train"]["learning_rate"] *= 2
    stage.project.configure(params)
    cluster.resume()
    stage.end(2)
    assert "params.yaml: train was edited while stage train ran" in stage.said
    params["train"]["learning_rate"] /= 2
    stage.project.configure(params)
    start().end(0)
    assert len(jobs_in(stage.project.root / ".scratch/jobs")) == 1, "the result was there"
    same_weights(stage.project, of_local)


def test_two_who_want_the_same_share_a_job(start: Callable[..., Stage], of_local: Project) -> None:
    stages = [start(), start()]
    for stage in stages:
        stage.end(0)
    assert sum("does this already" in stage.said for stage in stages) == 1
    assert stages[0].job
    same_weights(stages[0].project, of_local)
    assert not list(stages[0].project.root.glob(".scratch/train-*"))


def test_one_who_does_not_wait_finds_the_result(
    start: Callable[..., Stage], project: Project, cluster: Cluster, of_local: Project
) -> None:
    """And sees the job, and what it prints, meanwhile."""
    stage = start(*LAUNCH, "--detach")
    stage.end(0)
    number = stage.job.id
    assert f"job {number} was submitted" in stage.said
    assert f"{number} " in project.run("ocean-emulators", "jobs", **environment(cluster))
    assert f"epoch {EPOCHS}/{EPOCHS}" in project.run("ocean-emulators", "jobs", "tail", number, **environment(cluster))
    assert "completed" in project.run("ocean-emulators", "jobs", "list", **environment(cluster))
    assert stages_run(project.run("dvc", "repro", "train", **environment(cluster))) == ["train"]
    assert len(jobs_in(project.root / ".scratch/jobs")) == 1
    same_weights(project, of_local)


def test_a_sweep_is_an_array_of_trainings_and_as_many_experiments(project: Project, cluster: Cluster) -> None:
    """Two widths × two seeds: four runs in MLflow, and one table of scores."""
    (project.root / "slurm.yaml").write_text(yaml.safe_dump({**SLURM, "processes": 1}))
    tree = project.params()
    tree["train"]["epochs"] = 2
    project.configure(tree)
    project.commit("Two epochs")
    output = project.run(
        "ocean-emulators", "sweep", "model.width=4,6", "train.seed=1,2", **environment(cluster, "mlflow")
    )
    print(output)
    assert "4 of 4 to do" in output
    trainings = [job for job in jobs_in(project.root / ".scratch/jobs") if job.stage == "train"]
    (array,) = {job.id.split("_")[0] for job in trainings}
    assert sorted(job.id for job in trainings) == [f"{array}_{k}" for k in range(4)]
    assert project.until_queue_is_empty(**cluster.environment).count("Success") == 4
    assert len([job for job in jobs_in(project.root / ".scratch/jobs") if job.stage == "train"]) == 4, (
        "no other was made"
    )
    runs = project.runs()
    assert sorted((r.data.params["model.width"], r.data.params["train.seed"]) for r in runs) == [
        ("4", "1"), ("4", "2"), ("6", "1"), ("6", "2"),
    ]  # fmt: skip
    assert {run.data.tags["stages"] for run in runs} == {"compare evaluate train"}
    assert sorted(run.info.run_name[-2:] for run in runs) == ["-0", "-1", "-2", "-3"]
    shown = pd.read_csv(io.StringIO(project.run("dvc", "exp", "show", "--csv")))
    scored = shown[shown["Experiment"].fillna("").str.startswith("sweep-")]
    assert len(scored) == 4
    assert scored.filter(like="nrmse").notna().all(axis=None)


def test_a_job_is_cancelled_by_its_number(start: Callable[..., Stage], project: Project, cluster: Cluster) -> None:
    stage = start()
    stage.until_saved()
    assert "is cancelled" in project.run("ocean-emulators", "jobs", "cancel", stage.job.id, **environment(cluster))
    stage.end(2, 30)
    output = project.run("ocean-emulators", "jobs", "cancel", "77", fails=True, **environment(cluster))
    assert "error: job 77 was not submitted from this project" in output


def test_a_dry_run_shows_what_would_be_submitted(project: Project, cluster: Cluster) -> None:
    options = {"gpus": 2, "hours": 12, "setup": ["module load cuda"], "container": "apptainer exec ocean.sif"}
    (project.root / "dry.yaml").write_text(yaml.safe_dump({**SLURM, **options, "options": {"exclusive": True}}))
    output = project.run(*LAUNCH, "--dry-run", "--launch", "dry.yaml", **environment(cluster))
    print(output)
    assert "at most 48 GPU hours" in output
    for line in ("#SBATCH --gpus-per-node=4", "#SBATCH --time=720", "#SBATCH --exclusive", "module load cuda"):
        assert line in output.splitlines()
    assert "apptainer exec ocean.sif" in output
    assert not cluster.jobs()


def test_preparation_can_be_a_job_and_python_run_by_a_container(
    fresh: Project, cluster: Cluster, tmp_path: Path
) -> None:
    """`env` stands for a container: it runs Python with something changed."""
    project = fresh.copy(tmp_path / "project")
    launch = {"where": "slurm", "stages": ["prepare", "stats"], "container": "env INSIDE=1"}
    (project.root / "slurm.yaml").write_text(yaml.safe_dump(launch))
    project.run("dvc", "repro", "stats", **environment(cluster))
    jobs = {job.stage: job for job in jobs_in(project.root / ".scratch/jobs")}
    assert set(jobs) == {"prepare", "stats"}
    assert not list(project.root.glob(".scratch/waiting"))


def test_more_processes_than_windows_are_refused_before_the_queue(start: Callable[..., Stage]) -> None:
    stage = start(processes=64)
    stage.end(2)
    assert "64 processes can't share the 16 window(s) of a batch (train.batch_size)" in stage.said


def test_one_who_leaves_finds_the_job_again(start: Callable[..., Stage], of_local: Project) -> None:
    stage = start()
    stage.until_saved()
    os.killpg(stage.process.pid, signal.SIGINT)
    stage.end(75)
    assert f"job {stage.job.id} goes on" in stage.said
    again = start()
    again.end(0)
    assert f"job {stage.job.id} does this already" in again.said
    same_weights(stage.project, of_local)


@pytest.mark.parametrize(("answer", "cancelled"), [("y", True), ("", False)])
def test_one_who_leaves_from_a_terminal_is_asked(
    answer: str, cancelled: bool, start: Callable[..., Stage], cluster: Cluster
) -> None:
    terminal, theirs = pty.openpty()
    stage = start(stdin=theirs)
    os.close(theirs)
    stage.until_saved()
    os.killpg(stage.process.pid, signal.SIGINT)
    stage.until(lambda: "Cancel it? [y/N]" in stage.said)
    os.write(terminal, f"{answer}\n".encode())
    stage.end(75)
    os.close(terminal)
    assert ("was cancelled" in stage.said) == cancelled
    if cancelled:
        cluster.until_idle()
    else:
        assert cluster.jobs() == [stage.job.id]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"partition": "moon"}, "invalid partition specified: moon"),
        ({"memory_gib": 5000}, "Requested node configuration is not available"),
        ({"options": {"licenses": "moon:1"}}, "Invalid license specification"),
    ],
)
def test_what_slurm_refuses_is_told_in_its_words(
    options: dict[str, Any], said: str, start: Callable[..., Stage]
) -> None:
    stage = start(**options)
    stage.end(2, 60)
    assert "error: SLURM refuses the job: " in stage.said
    assert said in stage.said


def test_a_mistake_of_the_user_comes_back_as_one_line(start: Callable[..., Stage]) -> None:
    stage = start(processes=2, runtime={**RUNTIME, "device": "cuda"})
    stage.end(2)
    assert "error: runtime.device: cuda, but torch sees no GPU" in stage.said
    assert "Traceback" not in stage.said


def test_without_slurm_there_is_one_message(project: Project, tmp_path: Path) -> None:
    only = tmp_path / "bin"
    only.mkdir()
    (only / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (only / "python").chmod(0o755)
    output = project.run(*LAUNCH, fails=True, PATH=str(only), OCEAN_EMULATORS_LAUNCH="slurm.yaml")
    assert output.strip().splitlines()[-1].startswith("error: scontrol: no such program here")


def test_a_drill_on_the_cluster(project: Project, cluster: Cluster) -> None:
    """But for the time limit, which takes minutes."""
    (project.root / "slurm.yaml").write_text(yaml.safe_dump(SLURM))
    trials = ["killed", "told to stop", "full disk", "lost tracker"]
    output = project.run("ocean-emulators", "drill", "--epochs", "15", "--only", *trials, **environment(cluster))
    print(output)
    lines = {line[:14].strip(): line for line in output.splitlines()}
    assert all(lines[trial].endswith("  equal") for trial in ("undisturbed", *trials))
