"""A probe: the first steps of a training, for what they show of its time and memory before it is begun."""

import faulthandler
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from ocean_emulators.build import build_trainer, open_grids
from ocean_emulators.cost import memory_of
from ocean_emulators.datasets.loading.samplers import BatchSampler
from ocean_emulators.distributed import Ranks
from ocean_emulators.jobs.base import Report, leaving_results
from ocean_emulators.parallel import GIB
from ocean_emulators.programs import USER_ERROR
from ocean_emulators.runtime import Runtime
from ocean_emulators.stepper import BatchOutput
from ocean_emulators.train.config import TrainSections
from ocean_emulators.train.trainer import Trainer
from ocean_emulators.workspace import Workspace

_KIB = 2**10
_WARM_UP = 2
"""Steps that are slower: memory is allocated, kernels are chosen or compiled."""


@dataclass(frozen=True)
class Probed:
    """What a probe has found."""

    processes: int
    device: str
    steps: int
    """that were tried"""
    start_s: float
    """until the first batch was there"""
    first_step_s: float
    step_s: float
    """median of those after the first two, seconds"""
    waiting_s: float
    """of that, for data"""
    device_gib: list[float]
    """the most that each process held of its device; empty where they have none"""
    device_has_gib: float
    machine_gib: list[float]
    """the most that each process held of the machine's memory"""
    state_gib: float
    """a saved state"""
    training_steps: int
    """of the whole training"""
    losses: list[float]
    """of each step, on the first process"""

    def save(self, file: Path) -> None:
        """As JSON."""
        file.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, file: Path) -> "Probed":
        """The inverse."""
        return cls(**json.loads(file.read_text()))


@dataclass(frozen=True)
class ProbeJob:
    """Tries some steps of a training, alone or as one rank of several; see `Job`."""

    sections: TrainSections
    workspace: Workspace
    runtime: Runtime
    folder: Path
    steps: int
    from_start: bool = False
    """begin as the training does, instead of in the epoch whose rollouts are longest"""

    @property
    def found(self) -> Path:
        """The file of what it has found."""
        return self.folder / "results" / "probe.json"

    def run(self, report: Report) -> None:
        """See `Job`."""
        began, ranks = time.perf_counter(), Ranks.from_environment()
        device = self.runtime.start(ranks.local_rank)
        with ranks.joined(device, self.runtime.patience_s):
            grids = open_grids(self.workspace, self.sections, device)
            trainer = build_trainer(
                self.sections, grids, self.runtime, self.workspace, self.folder / "states", ranks=ranks
            )
            losses: list[float] = []
            times = np.array([(began, 0.0, 0.0), *self._try(trainer, losses)])
            trainer.save()
            trainer.store.wait(must=True)
            probed = _found(trainer, ranks, device, np.diff(times, axis=0), losses)
        if ranks.first:
            with leaving_results(self) as folder:
                probed.save(folder / self.found.name)

    def _try(self, trainer: Trainer, losses: list[float]) -> Iterator[tuple[float, float, float]]:
        """After each step the time, and what has been spent on waiting for data and on computation until then, seconds.

        The losses are added to those given.
        """
        with _patient(self.runtime.patience_s) as alive:
            for output in try_steps(trainer, self.steps, 0 if self.from_start else _costliest_epoch(trainer)):
                alive.set()
                losses.append(float(output.loss.detach()))
                yield time.perf_counter(), trainer.ledger.seconds["data"], trainer.ledger.seconds["compute"]


def _found(trainer: Trainer, ranks: Ranks, device: torch.device, spent: np.ndarray, losses: list[float]) -> Probed:
    """`spent` [step, 3] are the seconds of each step, of its waiting for data and of its computation."""
    cuda = device.type == "cuda"
    step_s, waiting_s, _ = np.median(spent[min(_WARM_UP, len(spent) - 1) :], axis=0)
    held = torch.cuda.max_memory_allocated(device) / GIB if cuda else 0.0
    machine = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB / GIB
    return Probed(
        processes=ranks.world_size,
        device=torch.cuda.get_device_name(device) if cuda else "CPU",
        steps=len(spent),
        start_s=float(spent[0, 0] - spent[0, 2]),
        first_step_s=float(spent[0, 2]),
        step_s=float(step_s),
        waiting_s=float(waiting_s),
        device_gib=ranks.gather(held) if cuda else [],
        device_has_gib=memory_of(device) / GIB,
        machine_gib=ranks.gather(machine),
        state_gib=trainer.store.files[0].stat().st_size / GIB if ranks.first else 0.0,
        training_steps=trainer.batches,
        losses=losses,
    )


def _costliest_epoch(trainer: Trainer) -> int:
    """The first whose rollouts are longest."""
    phases = trainer.phases
    lengths = [phases.phases[phases.of(epoch)].longest for epoch in range(trainer.config.epochs)]
    return lengths.index(max(lengths))


def try_steps(trainer: Trainer, steps: int, epoch: int) -> Iterator[BatchOutput]:
    """Train on the first batches of an epoch, and give what comes of each.

    Nothing is validated, reported or saved, and no training can go on from there.
    """
    place = trainer.place
    place.epoch = epoch
    batches = trainer.loader.batches
    assert isinstance(batches, BatchSampler)
    batches.set_epoch(place.epoch, 0)
    for batch in islice(trainer.ledger.waiting(trainer.loader), steps):
        with trainer.ledger.on("compute"):
            output = trainer.train_batch(batch)
        place.position += 1
        place.step += 1
        yield output


@contextmanager
def _patient(seconds: float) -> Iterator[threading.Event]:
    """End the process where the event that is given is not set in time, saying where it waits."""
    alive = threading.Event()

    def watch() -> None:
        if not alive.wait(seconds):
            print(f"error: no step was done within {seconds:g} s (runtime.patience_s); it waits here:", file=sys.stderr)
            faulthandler.dump_traceback()
            os._exit(USER_ERROR)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield alive
    finally:
        alive.set()
