"""A whole training against its bare arithmetic: steps, ranks, checkpoints, and the time until the first step.

On OM4-shaped stores, on one thread, as a process has by default. The network is a narrow Samudra 2: what the framework adds is
dearer beside it than beside the published one, which takes minutes a step on two cores.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from oceans import ROOT, om4_training, om4_workspace, prepare_all
from table import Result, ratio, run, seconds

from data import repeated
from launchers.local import run_on_ranks
from ocean_emulators.build import build_trainer, open_grids
from ocean_emulators.config.base import parse
from ocean_emulators.config.render import render
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.distributed import ALONE, Ranks
from ocean_emulators.experiment import Experiment
from ocean_emulators.runtime import Runtime
from ocean_emulators.train.parts import Reports
from ocean_emulators.train.trainer import Trainer
from ocean_emulators.workspace import Workspace

SHAPE, QUICK_SHAPE = (180, 360), (68, 136)
TIMES, HELD_OUT = 82, 4  # of a year at least, as statistics need it
QUICK_EPOCHS = 2
SHARE = 0.1
"""of the windows, in an epoch"""
NARROW = {"widths": [40, 56, 72, 80], "checkpointing": "none"}
N_PUBLISHED = 84_000_000
BETWEEN_SAVES = 300.0
CPU = torch.device("cpu")


def trainer_on(
    workspace: Workspace,
    model: dict[str, Any],
    states: str = "states",
    ranks: Ranks = ALONE,
    cache: str = "host",
    **train: Any,
) -> Trainer:
    """The Trainer of an experiment that writes what it tells as lines of JSON; it has as many epochs as one asks of it."""
    options = {"epochs": 1000, "validate_every": 1000, "batch_size": 1, "passes": [SHARE], **train}
    sections = om4_training(workspace, TIMES, HELD_OUT, model, options)
    lines = (workspace.root / "told.jsonl").open("a")

    def tell(number: int, logs: dict[str, float]) -> None:
        print(json.dumps({"number": number, **logs}), file=lines, flush=True)

    runtime = parse(Runtime, {"device": "cpu", "cache": cache}, "")
    grids = open_grids(workspace, sections, CPU)
    return build_trainer(sections, grids, runtime, workspace, workspace.root / states, Reports(tell, tell), ranks)


def epoch_of(trainer: Trainer) -> None:
    """One more epoch."""
    trainer.run(epochs=trainer.place.epoch + 1)


def steps_in(trainer: Trainer) -> int:
    """Optimiser steps of an epoch."""
    return len(trainer.loaders[0])


def measure_step(workspace: Workspace, repeats: int) -> list[Result]:
    """An epoch of the Trainer, its checkpoint and what it tells included, against as many bare steps."""
    trainer = trainer_on(workspace, NARROW)
    batch = trainer.loaders[0].data.load(next(iter(trainer.loaders[0].batches)))
    states, forcing = batch.prognostic[:, :2].clone(), batch.forcing[:, :2].clone()
    bare = trainer_on(workspace, NARROW).stepper.model.train()
    optimizer = torch.optim.Adam(bare.parameters(), lr=6e-4)

    def step() -> None:
        bare(states, forcing, "x1").square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    value = ratio(lambda: epoch_of(trainer), repeated(step, steps_in(trainer)), repeats, time.process_time)
    return [Result("training step / bare forward, backward and optimiser", value, 1.1)]


@dataclass(frozen=True)
class TogetherAndAlone:
    """What each of two ranks does: an epoch of the training of both, then one of its own; leaves the ratio in a file."""

    workspace: Workspace
    repeats: int
    file: Path

    def __call__(self) -> None:
        """As many windows a step in both."""
        torch.set_num_threads(1)
        ranks = Ranks.from_environment()
        with ranks.joined(CPU, 600):
            # As many windows on each rank in every step, else one waits for the other's.
            windows = trainer_on(self.workspace, NARROW).loaders[0].data.sizes["x1"]
            trainers = {
                "together": trainer_on(self.workspace, NARROW, "together", ranks, batch_size=2, passes=[8 / windows]),
                "alone": trainer_on(self.workspace, NARROW, f"alone_{ranks.rank}", passes=[4 / windows]),
            }
            assert {steps_in(trainer) for trainer in trainers.values()} == {4}
            times: dict[str, list[float]] = {name: [] for name in trainers}
            for _ in range(self.repeats + 1):
                for name, trainer in trainers.items():
                    ranks.any(False)  # both begin at once
                    taken = seconds(partial(epoch_of, trainer)) / steps_in(trainer)
                    times[name].append(max(ranks.gather(taken)))
            if ranks.first:
                self.file.write_text(str(min(times["together"][1:]) / min(times["alone"][1:])))


def measure_ranks(workspace: Workspace, repeats: int) -> list[Result]:
    """Two processes that train together, against the same two that train by themselves at the same time.

    The bar is for 1°: on small grids each of batch normalisation's sums over ranks waits for the other's jitter.
    """
    file = workspace.root / "ratio.txt"
    run_on_ranks(TogetherAndAlone(workspace, repeats, file), 2, workspace.root / "logs")
    value = float(file.read_text())
    bar = None if repeats < QUICK_EPOCHS + 1 else 1.1
    return [Result("step of two ranks / of two independent trainings side by side", value, bar)]


def measure_checkpoints(workspace: Workspace, quick: bool) -> list[Result]:
    """What training waits for, and what the writing thread takes of the processor."""
    model = {"widths": [140, 190, 240, 260]} if quick else {}
    trainer = trainer_on(workspace, model, cache="none")
    for parameter in trainer.optimisation.parameters:
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimisation.step()
    n = sum(p.numel() for p in trainer.optimisation.parameters)
    waited, written = [], []
    for _ in range(3):
        waited.append(seconds(trainer.save))
        written.append(seconds(trainer.store.wait, time.process_time))
        trainer.place.step += 1
    scale = N_PUBLISHED / n / BETWEEN_SAVES
    held, behind = statistics.median(waited) * scale, statistics.median(written) * scale
    return [
        Result("saving the state every 5 minutes: share of the time", held + behind, 0.01),
        Result("saving the state every 5 minutes: share that training waits", held, None),
    ]


FIRST_STEP = """
import os, sys, time
from ocean_emulators.train.optimisation import Optimisation
step = Optimisation.step
def first(self):
    step(self)
    print("first step after", time.time() - float(sys.argv[1]), flush=True)
    os._exit(0)
Optimisation.step = first
from launchers.__main__ import main
main("train")
"""


def seconds_to_first_step(workspace: Workspace) -> float:
    """From the start of `python -m launchers train` on."""
    command = [sys.executable, "-c", FIRST_STEP, str(time.time())]
    quiet = {"OCEAN_EMULATORS_TRACKER": "none", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=workspace.root, env=os.environ | quiet, capture_output=True, text=True)
    assert "first step after" in done.stdout, done.stdout + done.stderr
    return float(done.stdout.split()[-1])


def measure_start(at_1: Workspace, folder: Path) -> list[Result]:
    """On the sample ocean, and on a store at 1°, of which all is read first."""
    sample: Any = load_yaml(ROOT / "configs" / "experiment" / "sample.yaml")
    sample["data"]["source"] = str(ROOT / sample["data"]["source"])
    workspace = Workspace(folder / "sample", folder / "sample")
    workspace.root.mkdir()
    experiment = parse(Experiment, sample, "sample")
    prepare_all(experiment.data, workspace)
    sections = om4_training(at_1, TIMES, HELD_OUT, NARROW, {})
    evaluation = {"lead_days": 10, "report_days": [10], "start_every": 1}
    tree = sample | {"name": "om4", "evaluation": evaluation} | sections.dump()
    results = []
    for name, place, what, bar in (
        ("the sample ocean", workspace, experiment, 4.0),
        (f"a store of {TIMES} times", at_1, parse(Experiment, tree, "om4"), None),
    ):
        (place.root / ".dvc").mkdir(exist_ok=True)
        shutil.copy(ROOT / "dvc.yaml", place.root)
        place.params.write_text(render(what))
        value = min(seconds_to_first_step(place) for _ in range(3))
        results.append(Result(f"seconds from start to first step: {name}", value, bar))
    return results


@contextmanager
def one_thread() -> Iterator[None]:
    """In this process, while a block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def measure(repeats: int) -> list[Result]:
    """All figures."""
    quick = repeats < 10
    with tempfile.TemporaryDirectory() as name, one_thread():
        folder = Path(name)
        workspace = om4_workspace(folder / "om4", QUICK_SHAPE if quick else SHAPE, TIMES, HELD_OUT)
        epochs = QUICK_EPOCHS if quick else 5
        return [
            *measure_step(workspace, epochs),
            *measure_ranks(workspace, epochs),
            *measure_checkpoints(workspace, quick),
            *measure_start(workspace, folder),
        ]


if __name__ == "__main__":
    run(measure)
