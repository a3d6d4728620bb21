"""Whether training on a device gives what it gives on a CPU; each check returns figures, `ok` among them."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ocean_emulators.build import build_trainer, open_grids
from ocean_emulators.config.base import parse
from ocean_emulators.errors import Interrupted, UserError
from ocean_emulators.experiment import Experiment
from ocean_emulators.jobs.base import Job, results_of
from ocean_emulators.jobs.train import TrainJob
from ocean_emulators.runtime import Runtime
from ocean_emulators.stages import evaluate, train
from ocean_emulators.train.trainer import Trainer
from ocean_emulators.workspace import Workspace
from tests import tiny
from tests.pipeline import configure, do_here, new_workspace, run_stage

Figures = dict[str, Any]
CPU = torch.device("cpu")
CLOSE = 1e-3


@lru_cache
def workspace_at(root: Path) -> Workspace:
    """The tiny ocean, prepared."""
    workspace = new_workspace(root)
    for stage in ("prepare", "stats"):
        run_stage(workspace, stage)
    return workspace


def experiment_at(root: Path, model: Mapping[str, Any] = {}, **options: Any) -> Experiment:
    """One on the tiny ocean."""
    tree = tiny.experiment(root / "tiny.zarr", **options)
    tree["model"] |= {"norm": "batch", **model}
    return parse(Experiment, tree, "check")


def begin(experiment: Experiment, root: Path, device: torch.device, states: str = "states", **runtime: Any) -> Trainer:
    """Its trainer, without TF32, which a CPU has not."""
    options = Runtime(device=device.type, tf32=False, **runtime)
    options.start()
    grids = open_grids(workspace_at(root), experiment.training, device)
    return build_trainer(experiment.training, grids, options, workspace_at(root), root / device.type / states)


def one_step(device: torch.device, root: Path) -> Figures:
    """Losses and gradients of a rollout of two steps, and validation losses, beside a CPU's; a dilation is wide."""
    figures: Figures = {}
    for norm in ("batch", "instance", "none"):
        found = []
        for where in (device, CPU):
            trainer = begin(experiment_at(root, {"norm": norm, "widths": [24, 32], "dilation": [1, 8]}), root, where)
            batch = trainer.loaders[1].data.load(next(iter(trainer.loaders[1].batches)))
            validated = trainer.stepper.validate_batch(batch, 2).loss
            output = trainer.stepper.train_batch(batch, 2)
            output.loss.backward()
            gradient = torch.cat(
                [p.grad.flatten().cpu() for p in trainer.optimisation.parameters if p.grad is not None]
            )
            found.append((output.loss.detach().cpu(), validated.cpu(), gradient))
        names = ("loss", "validation", "gradient")
        figures |= {f"{norm} {name}": _apart(a, b) for name, a, b in zip(names, *found, strict=True)}
    return figures | {"ok": all(value < CLOSE for value in figures.values())}


def loaders(device: torch.device, root: Path) -> Figures:
    """Batches, to the bit, however they come to the device."""
    figures: Figures = {}
    experiment = experiment_at(root)
    plain = [_kept(batch) for batch in begin(experiment, root, CPU, cache="none", prefetch=0).loaders[0]]
    for cache in ("none", "host", "device"):
        trainer = begin(experiment, root, device, cache=cache, prefetch=2)
        for epoch in range(2):  # the second one in buffers that are used again
            sampler: Any = trainer.loaders[0].batches
            sampler.set_epoch(0)
            theirs = [_kept(batch) for batch in trainer.loaders[0]]
            off = max(
                float((a - b).abs().max())
                for x, y in zip(theirs, plain, strict=True)
                for a, b in zip(x, y, strict=True)
            )
            figures[f"{cache} {epoch}"] = off
    return figures | {"ok": not any(figures.values())}


def resuming(device: torch.device, root: Path) -> Figures:
    """Two epochs in one go, twice; in two runs; and stopped in mid-epoch: states are the same to the bit."""
    experiment = experiment_at(root, input_noise=0.2)
    whole = _outcome(experiment, root, device, "whole")
    figures = {"again": _differing(whole, _outcome(experiment, root, device, "again"))}
    begin(experiment, root, device, "parts").run(epochs=1)
    figures["by epochs"] = _differing(whole, _outcome(experiment, root, device, "parts", resumes=True))
    stopped = begin(experiment, root, device, "stopped")
    inner, calls = stopped.stepper.train_batch, []

    def outer(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGUSR1)
        return inner(*args)

    stopped.stepper.train_batch = outer  # type: ignore[method-assign]
    with suppress(Interrupted):
        stopped.run()
    figures["in mid-epoch"] = _differing(whole, _outcome(experiment, root, device, "stopped", resumes=True))
    return figures | {"ok": not any(figures.values())}


def resuming_deterministically(device: torch.device, root: Path) -> Figures:
    """The same where torch is asked for algorithms that give the same each time."""
    with _deterministic():
        return resuming(device, root / "deterministic")


def half_precision(device: torch.device, root: Path) -> Figures:
    """Training in float16, with its factor on the loss, and in bfloat16 learns as in float32."""
    figures: Figures = {}
    for precision in ("float32", "float16", "bfloat16"):
        trainer = begin(experiment_at(root, {"precision": precision}, epochs=4), root, device, precision)
        trainer.run()
        losses = [logs["val/mean/loss"] for logs in trainer.place.history]
        figures |= {f"{precision} first": losses[0], f"{precision} last": losses[-1]}
        if precision == "float16":
            figures["scale"] = trainer.optimisation.scaler.get_scale()
    reference = figures["float32 last"]
    return figures | {"ok": all(figures[f"{p} last"] < 1.2 * reference for p in ("float16", "bfloat16"))}


def everything(device: torch.device, root: Path) -> Figures:
    """Dynamic weights, random lengths, accumulation, rollout scores and the best epoch's weights, with a trace."""
    options = {
        "rollout_steps": [1, 2],
        "rollout_probabilities": [0.5, 0.5],
        "accumulation_steps": 2,
        "loss": {"dynamic": {"limit": 20}},
        "rollout_validation": {"days": 15, "starts": 2},
        "best_by": "val/rollout/nrmse/mean",
        "hand_on": "best",
        "input_noise": 0.2,
    }
    trainer = begin(experiment_at(root, **options), root, device, "everything/states", profile=True)
    trainer.run()
    logs = trainer.place.history[-1]
    trace = (root / device.type / "everything" / "trace.json").stat().st_size
    figures = {name: logs[name] for name in ("train/mean/loss", "val/mean/loss", "val/rollout/nrmse/mean")}
    return figures | {"trace": trace, "handed on": len(trainer.weights()[0]), "ok": True}


def stages(device: torch.device, root: Path) -> Figures:
    """The stages train and evaluate, the second on a CPU, too: rollouts score the same."""
    tree = tiny.experiment(workspace_at(root).root / "tiny.zarr", epochs=2)
    workspace = workspace_at(root)
    configure(workspace, tree)
    experiment = parse(Experiment, tree, "check")
    runtime = Runtime(device=device.type, tf32=False)
    train.main(experiment.training, workspace, runtime, do_here)
    scores = []
    for where in (runtime, Runtime(device="cpu")):
        evaluate.main(experiment.evaluating, workspace, where, _do_anew)
        scores.append(torch.from_numpy(pd.read_csv(workspace.evaluation.nrmse).to_numpy()))
    apart = _apart(*scores)
    return {"scores apart": apart, "ok": apart < CLOSE}


def one_batch(device: torch.device, root: Path) -> Figures:
    """A job that repeats its first batch."""
    runtime = Runtime(device=device.type, repeat_batch=True)
    job = TrainJob.of(experiment_at(root, seed=5).training, workspace_at(root), runtime)
    try:
        job.run(lambda metrics, step: None)
    except UserError as error:
        return {"said": str(error)[:160], "ok": not results_of(job).exists()}
    return {"ok": False}


CHECKS: dict[str, Callable[[torch.device, Path], Figures]] = {
    "a step as on a CPU": one_step,
    "batches as on a CPU": loaders,
    "resumption": resuming,
    "resumption, deterministic algorithms": resuming_deterministically,
    "half precision": half_precision,
    "all that training can do": everything,
    "stages train and evaluate": stages,
    "one batch again and again": one_batch,
}


def _do_anew(job: Job) -> None:
    shutil.rmtree(results_of(job), ignore_errors=True)
    do_here(job)


def _kept(batch: Any) -> tuple[Tensor, Tensor]:
    return batch.prognostic.cpu().clone(), batch.forcing.cpu().clone()


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def _outcome(experiment: Experiment, root: Path, device: torch.device, states: str, resumes: bool = False) -> Any:
    trainer = begin(experiment, root, device, states)
    assert trainer.resume() == resumes
    trainer.run()
    return trainer.state_dict()


def _differing(a: Any, b: Any, where: str = "") -> str:
    """Where two states differ first; nothing where they are the same but for times."""
    if isinstance(a, Mapping):
        pairs: Any = [(a[key], b[key], f"{where}.{key}") for key in a if key not in ("seconds", "train/seconds")]
    elif isinstance(a, list | tuple):
        pairs = [(x, y, f"{where}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True))]
    elif isinstance(a, Tensor):
        same = torch.equal(a.cpu(), b.cpu())
        return "" if same else f"{where}: {float((a.double().cpu() - b.double().cpu()).abs().max()):.1e}"
    else:
        return "" if a == b else f"{where}: {a} {b}"
    return next(filter(None, (_differing(*pair) for pair in pairs)), "")


@contextmanager
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
