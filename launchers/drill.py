"""`ocean-emulators drill`: a small training goes through what befalls long ones, where and as the user's own would run."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from launchers.config import VARIABLE, LaunchConfig, Local, Slurm, add_launch_argument, load_launch_config
from launchers.queue import ask
from launchers.submitted import jobs_in, logs_of
from ocean_emulators.config.base import did_you_mean, parse
from ocean_emulators.config.render import render
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment
from ocean_emulators.files import write_text
from ocean_emulators.programs import RESUME_ME, USER_ERROR
from ocean_emulators.tensors import load_tensors
from ocean_emulators.testing.coded_ocean import om4_periods, write_om4
from ocean_emulators.tracking import TRACKERS
from ocean_emulators.workspace import Workspace

SHAPE, TIMES, HELD_OUT, LEVELS = (16, 32), 219, 37, 2
_PATIENCE_S = 900.0
_MOST_RUNS = 5


@dataclass(frozen=True)
class Drill:
    """A project of its own, in which one thing befalls a training."""

    root: Path
    config: LaunchConfig

    def start(self, tracker: str = "none", file_bytes: int | None = None) -> "subprocess.Popen[str]":
        """The stage, as DVC runs it; no file that it writes may become larger than `file_bytes`."""
        config = self.config
        if file_bytes is not None and isinstance(config, Slurm):
            config = config.replace(setup=(*config.setup, f"ulimit -f {file_bytes // 1024}"))
        write_text(self.root / "launch.yaml", render(config))
        limit = f"ulimit -f {file_bytes // 1024}; " if file_bytes is not None else ""
        command = f"{limit}exec {sys.executable} -m launchers train --launch launch.yaml"
        environment = {"OCEAN_EMULATORS_TRACKER": tracker, "PYTHONPATH": str(Path(__file__).parents[1])}
        return subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.root,
            env={name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=(self.root / "said.txt").open("a"),
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def said(self) -> str:
        """All that was printed."""
        return (self.root / "said.txt").read_text()

    @property
    def states(self) -> list[Path]:
        """What training has saved."""
        return sorted(self.root.glob(".scratch/train-*/states/[0-9]*.pt"))

    @property
    def job(self) -> str:
        """The number of the cluster's job."""
        return jobs_in(logs_of(Workspace(self.root, self.root)))[0].id

    def start_until_saved(self, tracker: str = "none") -> "subprocess.Popen[str]":
        """The stage, once its training has saved a state.

        Raises
        ------
        UserError
            If it ends before.
        """
        process = self.start(tracker)
        deadline = time.monotonic() + _PATIENCE_S
        while not self.states:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise UserError(f"drill: the training saved nothing; it said:\n{self.said}")
            time.sleep(0.05)
        return process

    def weights(self) -> dict[str, Any]:
        """What was trained."""
        content = load_tensors(self.root / "outputs" / "train" / "checkpoint.pt")
        return {part: content[part] for part in ("model", "averaged_model")}


Trial = Callable[[Drill], "subprocess.Popen[str]"]
"""Starts the stage, does something to it, and returns its process."""


def undisturbed(drill: Drill) -> "subprocess.Popen[str]":
    """Nothing happens."""
    return drill.start()


def killed(drill: Drill) -> "subprocess.Popen[str]":
    """The training's processes end at once, as where memory runs out."""
    process = drill.start_until_saved()
    if isinstance(drill.config, Slurm):
        ask("scancel", "--signal=KILL", drill.job)
    else:
        _trainers(process, drill.config)[-1].kill()
    return process


def told_to_stop(drill: Drill) -> "subprocess.Popen[str]":
    """The signal of a preemption; a cluster's job is requeued."""
    process = drill.start_until_saved()
    if isinstance(drill.config, Slurm):
        ask("scancel", "--signal=USR2", drill.job)
    else:
        os.killpg(process.pid, signal.SIGTERM)
    return process


def time_limit(drill: Drill) -> "subprocess.Popen[str]":
    """A cluster's job comes to its time limit, which is lowered to a minute: for trainings that take longer."""
    process = drill.start_until_saved()
    ask("scontrol", "update", f"jobid={drill.job}", "timelimit=1")
    return process


def full_disk(drill: Drill) -> "subprocess.Popen[str]":
    """States and results can't be written, as on a full disk: files may not become so large."""
    return drill.start(file_bytes=100 * 1024)


def lost_tracker(drill: Drill) -> "subprocess.Popen[str]":
    """MLflow's database becomes unreadable while the training runs."""
    process = drill.start_until_saved(tracker="mlflow")
    database = drill.root / "mlflow.db"
    while not database.is_file() and process.poll() is None:  # it is made beside the work
        time.sleep(0.05)
    content = database.read_bytes()
    database.write_bytes(b"lost" * (len(content) // 4))
    process.wait(_PATIENCE_S)
    database.write_bytes(content)
    return process


def trials_of(config: LaunchConfig) -> dict[str, Trial]:
    """Those that can be done there, the undisturbed one first."""
    trials: dict[str, Trial] = {"undisturbed": undisturbed, "killed": killed, "told to stop": told_to_stop}
    if isinstance(config, Slurm):
        trials["time limit"] = time_limit
    trials["full disk"] = full_disk
    if "mlflow" in TRACKERS:
        trials["lost tracker"] = lost_tracker
    return trials


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to train."""
    add_launch_argument(parser)
    parser.add_argument("--epochs", type=int, default=60, help="length of the training (default: %(default)s)")
    parser.add_argument("--verbose", action="store_true", help="print what the trainings print")
    parser.add_argument("--only", nargs="+", metavar="TRIAL", help="these trials, beside the undisturbed training")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print what survived each trial; ends in an error where the weights are not those of an undisturbed training."""
    config, workspace = _for_drills(load_launch_config(options.launch)), Workspace.here()
    workspace.scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="drill-", dir=workspace.scratch) as folder:
        ready = Path(folder) / "ready"
        _prepare(ready, workspace, config, options.epochs)
        print(f"{'what happens':<14} {'the stage ends with':<36} {'runs':>4} {'seconds':>8}  weights", flush=True)
        expected: dict[str, Any] | None = None
        failed = False
        for name, trial in _chosen(trials_of(config), options.only).items():
            drill = Drill(Path(folder) / name.replace(" ", "_"), config)
            shutil.copytree(ready, drill.root, symlinks=True)
            outcome = _go_through(drill, trial)
            expected = expected or outcome.weights
            same = bool(outcome.weights and expected) and _equal(outcome.weights or {}, expected or {})
            failed |= not same
            verdict = "equal" if same else "DIFFERENT" if outcome.weights else "NONE"
            print(f"{name:<14} {outcome.first:<36} {outcome.runs:>4} {outcome.seconds:>8.1f}  {verdict}", flush=True)
            if not same or options.verbose:
                print(drill.said)
    if failed:
        raise UserError("drill: not all trainings ended as if nothing had happened")


def _chosen(trials: dict[str, Trial], only: list[str] | None) -> dict[str, Trial]:
    unknown = [name for name in only or [] if name not in trials]
    if unknown:
        raise UserError(f"drill: no trial {unknown[0]!r}; {did_you_mean(unknown[0], trials)}")
    return {name: trial for name, trial in trials.items() if only is None or name in ("undisturbed", *only)}


@dataclass(frozen=True)
class Outcome:
    """Of a trial."""

    first: str
    """how the stage ended that it was done to"""
    runs: int
    """how often the stage was run until it was done"""
    seconds: float
    weights: dict[str, Any] | None


_ENDS = {0: "its results", RESUME_ME: "75: the state is saved", USER_ERROR: "2: a message", 1: "1: a message"}


def _go_through(drill: Drill, trial: Trial) -> Outcome:
    """Do a trial, then run the stage again until it is done, as `dvc repro` would."""
    began = time.monotonic()
    code = trial(drill).wait(_PATIENCE_S)
    first, runs = _ENDS.get(code, f"{code}: ended by a signal" if code < 0 else str(code)), 1
    while code and runs < _MOST_RUNS:
        code, runs = drill.start().wait(_PATIENCE_S), runs + 1
    return Outcome(first, runs, time.monotonic() - began, None if code else drill.weights())


def _trainers(process: "subprocess.Popen[str]", config: LaunchConfig) -> list[psutil.Process]:
    """The processes that train: by rank, where the stage has several."""
    whole = psutil.Process(process.pid)
    if not isinstance(config, Local):
        return [whole]
    below = [child for child in whole.children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]
    return sorted(below, key=lambda child: child.create_time())


def _for_drills(config: LaunchConfig) -> LaunchConfig:
    """The user's configuration, with states saved every few steps."""
    runtime = config.runtime.dump() | {"checkpoint_steps": 5, "patience_s": 60.0, "deterministic": True}
    longer = {"grace_s": max(config.grace_s, 50)} if isinstance(config, Slurm) else {}
    return config.replace(runtime=runtime, **longer)


def _prepare(root: Path, workspace: Workspace, config: LaunchConfig, epochs: int) -> None:
    """A project with a small ocean, prepared."""
    (root / ".dvc").mkdir(parents=True)
    shutil.copy(workspace.root / "dvc.yaml", root)
    write_om4(root / "ocean.zarr", SHAPE, TIMES, LEVELS)
    write_text(root / "params.yaml", render(_experiment(config, epochs)))
    for stage in ("prepare", "stats"):
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
        environment["PYTHONPATH"] = str(Path(__file__).parents[1])
        command = [sys.executable, "-c", f"from launchers.__main__ import main; main('{stage}')"]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"drill: stage {stage} has failed:\n{done.stderr or done.stdout}")


def _experiment(config: LaunchConfig, epochs: int) -> Experiment:
    tree = {
        "name": "drill",
        "data": {
            "source": "ocean.zarr",
            "prognostic": ["thetao", "so", "zos"],
            "forcing": ["tauuo", "hfds"],
            "levels": [0, 1],
            "periods": om4_periods(TIMES, HELD_OUT),
        },
        "model": {"type": "samudra", "widths": [16, 24], "dilation": [1, 2], "expansion": 1, "norm": "batch"},
        "train": {
            "epochs": epochs,
            "batch_size": max(16, config.ranks),
            "rollout_steps": [1],
            "learning_rate": 3e-3,
            "input_noise": 0.2,
        },
        "evaluation": {"lead_days": 10, "report_days": [10]},
    }
    return parse(Experiment, tree, "drill")


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """To the bit."""
    return all(torch.equal(one[part][name], other[part][name]) for part in other for name in other[part])
