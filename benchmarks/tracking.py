"""What records and their copies take of a training of the default experiment, of which 2,000 metrics are told at once.

Trackers are served by a thread of their own. What that takes of the processor is shown, too: where there is one core for all,
or while Python's lock is held, the training has it later.
"""

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
from ocean_emulators.train.parts import QUIET
from ocean_emulators.workspace import Workspace

METRICS = 2000


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


def cost_of_telling(home: Path, repeats: int) -> tuple[float, float]:
    """Seconds that a step waits, and seconds of the processor until a tracker has what it told."""
    home.mkdir()
    with open_record("cost", Provenance({"a": 1}, "data"), home) as record, record.stage("train"):

        def tell(step: int) -> None:
            record.log_metrics({f"train/field_{k}/loss": 1.0 / (k + step + 1) for k in range(METRICS)}, step)

        tell(0)
        until_sent(record.run.folder, 2)
        began = time.process_time()
        waited = statistics.median(seconds(lambda: tell(step)) for step in range(1, repeats + 1))  # noqa: B023
        until_sent(record.run.folder, 2 + repeats)
        return waited, (time.process_time() - began) / repeats


def until_sent(folder: Path, events: int) -> None:
    """Wait until the tracker, if there is one, has had so many events."""
    while os.environ["OCEAN_EMULATORS_TRACKER"] != "none" and not any(
        int(note.read_text().split()[-1].rstrip("}")) >= events for note in folder.glob("*.sent")
    ):
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
    process = subprocess.Popen(command, cwd=folder, stdout=quiet, stderr=quiet)
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


def shares(what: str, cost: tuple[float, float], step: float, steps: int) -> list[Result]:
    """Of the time of an epoch at whose end they are told; and, without a bar, of a step, where every one tells so many."""
    waited, taken = cost
    return [
        Result(f"{what}: share of an epoch, of the processor", taken / step / steps, 0.01),
        Result(f"{what}: share of an epoch, that training waits", waited / step / steps, 0.01),
        Result(f"{what}: share of a step, of the processor", taken / step, None),
        Result(f"{what}: share of a step, that training waits", waited / step, None),
    ]


def measure(repeats: int) -> list[Result]:
    """All shares."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true"}
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.set_num_threads(1)
        step, steps = step_of_default(folder / "sample")
        results.append(Result("seconds of a step of the default experiment", step, None))
        os.environ["OCEAN_EMULATORS_TRACKER"] = "none"
        results += shares("record alone", cost_of_telling(folder / "alone", repeats), step, steps)
        os.environ["OCEAN_EMULATORS_TRACKER"] = "mlflow"
        results += shares("MLflow's database", cost_of_telling(folder / "own", repeats), step, steps)
        with server(folder) as address:
            os.environ["MLFLOW_TRACKING_URI"] = address
            results += shares("MLflow's server", cost_of_telling(folder / "served", repeats), step, steps)
    return results


if __name__ == "__main__":
    run(measure)
