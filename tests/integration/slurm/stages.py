"""Trainings as jobs of a SLURM: what the tests of its launcher start, wait for and compare."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch
import yaml

from launchers.submitted import Submitted, jobs_in
from ocean_emulators.tensors import load_tensors
from tests import tiny
from tests.integration.conftest import ENVIRONMENT, Project
from tests.integration.slurm.cluster import Cluster

EPOCHS = 40
LAUNCH = ("python", "-m", "launchers", "train")
RUNTIME = {"device": "cpu", "patience_s": 30, "checkpoint_steps": 5}
SLURM: dict[str, Any] = {
    "where": "slurm",
    "processes": 2,
    "memory_gib": 0.5,
    "partition": "main",
    "grace_s": 10,
    "runtime": RUNTIME,
}


def prepared(fresh: Project, root: Path, epochs: int = EPOCHS) -> Project:
    """A project whose data are prepared, with a launch file."""
    project = fresh.copy(root)
    project.configure(tiny.experiment(epochs=epochs, rollout_steps=[1], input_noise=0.2))
    (project.root / "slurm.yaml").write_text(yaml.safe_dump(SLURM))
    project.run("dvc", "repro", "stats")
    project.commit("Prepared")
    return project


def train_here(project: Project, processes: int) -> Project:
    """Train by processes of this machine, without interruption."""
    launch = {"where": "local", "processes": processes, "runtime": RUNTIME}
    (project.root / "local.yaml").write_text(yaml.safe_dump(launch))
    project.run(*LAUNCH, OCEAN_EMULATORS_LAUNCH="local.yaml", OCEAN_EMULATORS_TRACKER="none")
    return project


def environment(cluster: Cluster, tracker: str = "none") -> dict[str, str]:
    """By which a stage finds the cluster."""
    return {**cluster.environment, "OCEAN_EMULATORS_LAUNCH": "slurm.yaml", "OCEAN_EMULATORS_TRACKER": tracker}


def same_weights(one: Project, other: Project) -> None:
    """Both have trained to the same weights, to the bit, with the same history."""
    found, expected = (load_tensors(p.root / "outputs/train/checkpoint.pt") for p in (one, other))
    for part in ("model", "averaged_model"):
        assert found[part].keys() == expected[part].keys()
        assert all(torch.equal(found[part][name], tensor) for name, tensor in expected[part].items())
    histories = (pd.read_csv(p.root / "outputs/train/history.csv") for p in (one, other))
    pd.testing.assert_frame_equal(*histories, check_exact=True)


@dataclass(frozen=True)
class Stage:
    """A stage that waits for its job."""

    process: "subprocess.Popen[bytes]"
    log: Path
    project: Project

    @property
    def said(self) -> str:
        return self.log.read_text()

    def until(self, what: Callable[[], Any], seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    def until_saved(self) -> None:
        """Until the training has saved a state."""
        self.until(lambda: list(self.project.root.glob(".scratch/train-*/states/[0-9]*.pt")))

    def end(self, code: int, seconds: float = 120) -> None:
        assert self.process.wait(seconds) == code, self.said

    @property
    def job(self) -> Submitted:
        (job,) = jobs_in(self.project.root / ".scratch/jobs")
        return job


@contextmanager
def starting(project: Project, cluster: Cluster, logs: Path) -> Iterator[Callable[..., Stage]]:
    """What starts a stage, training unless it is told otherwise, with launch options that differ from SLURM's above."""
    started: list[Stage] = []

    def start(*command: str, stdin: int = subprocess.DEVNULL, **options: Any) -> Stage:
        (project.root / "slurm.yaml").write_text(yaml.safe_dump({**SLURM, **options}))
        log = logs / f"log{len(started)}"
        with log.open("w") as printed:
            process = subprocess.Popen(
                command or LAUNCH,
                cwd=project.root,
                env=ENVIRONMENT | environment(cluster),
                stdin=stdin,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        started.append(Stage(process, log, project))
        return started[-1]

    yield start
    for stage in started:
        print(stage.said)
        if stage.process.poll() is None:
            stage.process.kill()
            stage.process.wait()


def ranks_of(job: Submitted) -> list[psutil.Process]:
    """The processes of a job's ranks, by rank."""
    found = {}
    for process in psutil.process_iter():
        try:
            if "submitit.core._submit" in process.cmdline() and process.environ().get("SLURM_JOB_ID") == job.id:
                found[int(process.environ()["SLURM_PROCID"])] = process
        except (psutil.Error, KeyError):
            pass
    return [found[rank] for rank in sorted(found)]
