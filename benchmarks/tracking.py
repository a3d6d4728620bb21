"""What records and their copies take of a training of the default experiment: thousands of metrics a run, and a step.

Trackers are served by a thread of their own. What that takes of the processor is shown, too: where there is one core for all,
or while Python's lock is held, the training has it later.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from oceans import ROOT, prepare_all
from table import Result, run, seconds

from ocean_emulators.build import build_trainer, open_grids
from ocean_emulators.config.base import parse
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.experiment import Experiment
from ocean_emulators.runtime import Runtime
from ocean_emulators.tracking import Provenance, open_record
from ocean_emulators.tracking.open import NONE, VARIABLE
from ocean_emulators.tracking.record import RunFolder
from ocean_emulators.train.parts import QUIET
from ocean_emulators.workspace import Workspace

AN_EPOCH, A_STEP = 200, 2000
"""metrics that are told at the end of each epoch (3,000 a run), and, as much as anyone could ask for, after each step"""


def step_of_default(folder: Path) -> tuple[float, int]:
    """Seconds of a step of its training, and steps in an epoch."""
    sample: Any = load_yaml(ROOT / "configs" / "experiment" / "sample.yaml")
    sample["data"]["source"] = str(ROOT / sample["data"]["source"])
    experiment, workspace = parse(Experiment, sample, "sample"), Workspace(folder, folder)
    folder.mkdir()
    prepare_all(experiment.data, workspace)
    grids = open_grids(workspace, experiment.training, torch.device("cpu"))
    runtime = parse(Runtime, {"device": "cpu"}, "")
    trainer = build_trainer(experiment.training, grids, runtime, workspace, folder / "states", QUIET)
    trainer.run(epochs=1)
    steps = len(trainer.loaders[0])
    return trainer.ledger.seconds["compute"] / steps, steps


def cost_of_telling(home: Path, metrics: int, repeats: int) -> tuple[float, float]:
    """Seconds that training waits while so many are told, and seconds of the processor until a tracker has them."""
    home.mkdir()
    with open_record("cost", Provenance({"a": metrics}, "data"), home) as record, record.stage("train"):

        def tell(step: int) -> None:
            record.log_metrics({f"train/field_{k}/loss": 1.0 / (k + step + 1) for k in range(metrics)}, step)

        tell(0)
        until_sent(record.run)
        began, waited = time.process_time(), []
        for step in range(1, repeats + 1):
            waited.append(seconds(partial(tell, step)))
        until_sent(record.run)
        return statistics.median(waited), (time.process_time() - began) / repeats


def until_sent(run: RunFolder) -> None:
    """Wait until the tracker, if there is one, has had all."""
    told = len(run.events.read_bytes().splitlines())
    while os.environ[VARIABLE] != NONE:
        notes = [json.loads(note.read_text()) for note in run.folder.glob("*.sent")]
        if any(note["events"] >= told for note in notes):
            break
        time.sleep(0.05)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """MLflow's, on this machine; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = [f"--backend-store-uri=sqlite:///{folder}/server.db", f"--artifacts-destination={folder}/files"]
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1", *store]
    address, quiet = f"http://127.0.0.1:{port}", subprocess.DEVNULL
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=quiet, stderr=quiet)
    try:
        while not answers(address):
            assert process.poll() is None
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


def answers(address: str) -> bool:
    """Whether a server does."""
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def shares(what: str, folder: Path, step: float, steps: int, repeats: int) -> list[Result]:
    """Of the time of an epoch, and of a step: the latter depends on MLflow alone, and has no bar."""
    results = []
    for each, metrics, time_of, bar in (("an epoch", AN_EPOCH, step * steps, 0.01), ("a step", A_STEP, step, None)):
        waited, taken = cost_of_telling(folder / f"{what} {metrics}", metrics, repeats)
        told = f"{what}, {metrics} after {each}: share of it"
        results.append(Result(f"{told}, of the processor", taken / time_of, bar))
        results.append(Result(f"{told}, that training waits", waited / time_of, bar))
    return results


def measure(repeats: int) -> list[Result]:
    """All shares."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.set_num_threads(1)
        step, steps = step_of_default(folder / "sample")
        results = [Result("seconds of a step of the default experiment", step, None)]
        os.environ[VARIABLE] = NONE
        results += shares("record alone", folder, step, steps, repeats)
        os.environ[VARIABLE] = "mlflow"
        results += shares("MLflow's database", folder, step, steps, repeats)
        with server(folder) as os.environ["MLFLOW_TRACKING_URI"]:
            results += shares("MLflow's server", folder, step, steps, repeats)
    return results


if __name__ == "__main__":
    run(measure)
