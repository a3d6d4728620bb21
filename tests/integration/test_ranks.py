"""Training by several processes on this machine, under `torchrun` and where the launch configuration says `local`: its
result, and what a user sees of a process that dies, hangs or is asked to stop."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from tests import tiny
from tests.integration.conftest import ENVIRONMENT, ROOT, Project, stages_run

EPOCHS = 12
PATIENCE_S = 15
TORCHRUN = ("torchrun", "--standalone", "--nproc-per-node", "2", "-m", "launchers", "train")
LAUNCH = ("python", "-m", "launchers", "train")
KINDS = {"local": LAUNCH, "torchrun": TORCHRUN}


def environment(kind: str) -> dict[str, str]:
    where = "local" if kind == "local" else "alone"
    return {"OCEAN_EMULATORS_LAUNCH": f"{where}.yaml", "OCEAN_EMULATORS_TRACKER": "none"}


@pytest.fixture(scope="module")
def ready(fresh: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose data are prepared, with launch files; not to be changed."""
    project = fresh.copy(tmp_path_factory.mktemp("ready") / "project")
    project.configure(tiny.experiment(epochs=EPOCHS, rollout_steps=[1], input_noise=0.2))
    runtime = {"device": "cpu", "patience_s": PATIENCE_S, "checkpoint_steps": 3}
    for name, launch in (("local", {"where": "local", "processes": 2}), ("alone", {})):
        (project.root / f"{name}.yaml").write_text(yaml.safe_dump({**launch, "runtime": runtime}))
    project.run("dvc", "repro", "stats")
    project.commit("Prepared")
    return project


@pytest.fixture
def project(ready: Project, tmp_path: Path) -> Project:
    return ready.copy(tmp_path / "project")


def history(project: Project) -> pd.DataFrame:
    return pd.read_csv(project.root / "outputs/train/history.csv")


@pytest.fixture(scope="module")
def of_two(ready: Project, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The history of an uninterrupted training by two processes, by `dvc repro`."""
    project = ready.copy(tmp_path_factory.mktemp("two") / "project")
    output = project.run("dvc", "repro", "train", **environment("local"))
    assert stages_run(output) == ["train"]
    assert f"epoch {EPOCHS}/{EPOCHS}" in output
    return history(project)


@dataclass(frozen=True)
class Running:
    """A training by two processes that has saved a state."""

    project: Project
    process: subprocess.Popen[bytes]
    log: Path
    everybody: list[psutil.Process]
    """below the launcher's process"""

    @property
    def ranks(self) -> list[psutil.Process]:
        """By rank: in the order in which they began."""
        found = [p for p in self.everybody if is_rank(p)]
        return sorted(found, key=lambda p: p.create_time())

    def end(self, within: float) -> float:
        """Seconds until the launcher's process has ended, and with it all others."""
        began = time.monotonic()
        self.process.wait(timeout=within)
        seconds = time.monotonic() - began
        _, left = psutil.wait_procs(self.everybody, timeout=2)
        assert not left
        return seconds

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def saved(self) -> list[Path]:
        return states(self.project)


def is_rank(process: psutil.Process) -> bool:
    line = " ".join(process.cmdline())
    return "spawn_main" in line or ("-m launchers" in line and "torchrun" not in line)


def states(project: Project) -> list[Path]:
    return sorted(project.root.glob(".scratch/train-*/states/[0-9]*.pt"))


@pytest.fixture
def start(project: Project, tmp_path: Path) -> Iterator[Callable[[str], Running]]:
    started: list[Running] = []

    def start(kind: str) -> Running:
        log = tmp_path / "log"
        with log.open("w") as printed:
            process = subprocess.Popen(
                KINDS[kind],
                cwd=project.root,
                env=ENVIRONMENT | environment(kind),
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        deadline = time.monotonic() + 200
        while not states(project):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        running = Running(project, process, log, psutil.Process(process.pid).children(recursive=True))
        assert len(running.ranks) == 2
        started.append(running)
        return running

    yield start
    for running in started:
        for process in [*running.everybody, running.process]:
            if process.is_running() if isinstance(process, psutil.Process) else process.poll() is None:
                process.kill()


def goes_on(project: Project, expected: pd.DataFrame) -> None:
    """`dvc repro` resumes, and the end is as if nothing had happened."""
    output = project.run("dvc", "repro", "train", **environment("local"))
    assert "resuming after epoch" in output
    pd.testing.assert_frame_equal(history(project), expected, check_exact=True)


def test_one_process_and_two_make_the_same_curve(ready: Project, of_two: pd.DataFrame, tmp_path: Path) -> None:
    curves = {}
    for kind, command in (("alone", LAUNCH), ("torchrun", TORCHRUN)):
        project = ready.copy(tmp_path / kind)
        project.run(*command, **environment(kind))
        curves[kind] = history(project)
    pd.testing.assert_frame_equal(curves["torchrun"], of_two, check_exact=True)
    losses = [name for name in of_two if "loss" in name]
    apart = (of_two / curves["alone"] - 1).abs().max()
    print(f"two processes and one: losses at most {apart[losses].max():.1e} apart, other numbers {apart.max():.1e}")
    assert apart[losses].max() < 1e-4
    np.testing.assert_allclose(of_two, curves["alone"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGABRT], ids=lambda how: how.name)
def test_a_rank_that_dies_ends_the_training(
    how: signal.Signals, rank: int, start: Callable[[str], Running], of_two: pd.DataFrame
) -> None:
    running = start("local")
    os.kill(running.ranks[rank].pid, how)
    seconds = running.end(15)
    print(f"{how.name} of rank {rank}: seen after {seconds:.1f} s")
    print(running.said)
    assert running.process.returncode == 1
    assert f"error: process {rank + 1} of 2 was ended by {how.name}; the others were ended" in running.said
    assert running.saved
    if rank:
        goes_on(running.project, of_two)


WORK = """
import os, sys, time, torch
from pathlib import Path
from launchers.local import run_on_ranks
from ocean_emulators.distributed import Ranks
from ocean_emulators.errors import UserError

def work():
    ranks = Ranks.from_environment()
    with ranks.joined(torch.device("cpu"), 60):
        for step in range(10):
            if step == 5 and ranks.rank == 1:
                print("raises", time.time(), file=sys.stderr)
                raise {error}
            ranks.sum(torch.ones(3))

if __name__ == "__main__":
    run_on_ranks(work, 2, Path("logs"))
"""


@pytest.mark.parametrize(("error", "code"), [("ValueError('the ice is thin')", 1), ("UserError('the ice is thin')", 2)])
def test_a_rank_that_raises_ends_all_with_its_message(error: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WORK.format(error=error))
    done = subprocess.run(
        ["python", "work.py"],
        cwd=tmp_path,
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    ended = time.time()
    print(done.stderr)
    assert done.returncode == code
    last = done.stderr.split("error: process 2 of 2 failed with")[1]
    assert last.startswith(f" {code}; the others were ended")
    assert "the ice is thin" in last
    assert ("Traceback" in last) == (code == 1)
    (raised,) = [float(line.split()[1]) for line in last.splitlines() if line.startswith("raises")]
    print(f"{error}: all gone after {ended - raised:.1f} s")
    assert ended - raised < 15


def test_a_rank_that_hangs_is_waited_for_no_longer_than_said(
    start: Callable[[str], Running], of_two: pd.DataFrame
) -> None:
    running = start("local")
    running.ranks[1].suspend()
    seconds = running.end(PATIENCE_S + 40)
    print(f"SIGSTOP of rank 1: seen after {seconds:.1f} s")
    print(running.said)
    assert running.process.returncode != 0
    assert running.saved
    goes_on(running.project, of_two)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT], ids=lambda how: how.name)
def test_all_stop_when_the_launcher_is_asked_to(
    how: signal.Signals, start: Callable[[str], Running], of_two: pd.DataFrame
) -> None:
    running = start("local")
    os.kill(running.process.pid, how)
    seconds = running.end(30)
    print(f"{how.name}: all gone after {seconds:.1f} s")
    print(running.said)
    assert running.process.returncode == 75
    assert running.said.count(f"interrupted: stopped by {how.name} in epoch") == 1
    assert "Traceback" not in running.said
    if how == signal.SIGTERM:
        goes_on(running.project, of_two)


def test_torchrun_passes_the_request_on(start: Callable[[str], Running]) -> None:
    """Its own exit code is 1, whatever the ranks say."""
    running = start("torchrun")
    os.kill(running.process.pid, signal.SIGTERM)
    seconds = running.end(30)
    print(f"torchrun, SIGTERM: all gone after {seconds:.1f} s")
    print(running.said)
    assert running.process.returncode == 1
    assert "interrupted: stopped by SIGTERM in epoch" in running.said


def test_a_drill_of_two_processes(project: Project) -> None:
    output = project.run("ocean-emulators", "drill", "--launch", "local.yaml", "--epochs", "15")
    print(output)
    lines = {line[:14].strip(): line for line in output.splitlines()}
    for trial in ("undisturbed", "killed", "told to stop", "full disk", "lost tracker"):
        assert lines[trial].endswith("  equal")
