"""A training that is stopped anywhere and resumed ends, to the bit, as one that was not: alone and as several ranks."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ocean_emulators.build import open_grids
from ocean_emulators.config.base import parse
from ocean_emulators.distributed import ALONE, Ranks
from ocean_emulators.errors import Interrupted
from ocean_emulators.experiment import Experiment
from ocean_emulators.runtime import Runtime
from ocean_emulators.train.trainer import Trainer
from ocean_emulators.workspace import Workspace
from tests import tiny
from tests.pipeline import new_workspace, run_stage
from tests.ranks import run_ranks
from tests.trainers import trainer_of

Tree = dict[str, Any]
PLAIN: Tree = {"epochs": 2, "rollout_steps": [1], "batch_size": 32, "input_noise": 0.2}
EVERYTHING: Tree = {
    "epochs": 2,
    "rollout_steps": [1, 2],
    "rollout_probabilities": [0.5, 0.5],
    "batch_size": 32,
    "accumulation_steps": 2,
    "input_noise": 0.2,
    "passes": [1, 1],
    "loss": {"dynamic": {"limit": 20}},
    "schedule": {"type": "plateau", "plateau_patience": 1, "warmup_fraction": 0.1},
    "rollout_validation": {"days": 15, "starts": 2},
    "best_by": "val/rollout/nrmse/mean",
    "hand_on": "best",
    "validate_steps": 4,
}
KINDS = {"plain": PLAIN, "everything": EVERYTHING}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("prepared")
    workspace = new_workspace(root, tree_of(root, PLAIN))
    for stage in ("prepare", "stats"):
        run_stage(workspace, stage)
    return workspace


def tree_of(root: Path, train: Tree) -> Tree:
    if not (root / "tiny.zarr").exists():
        tiny.write(root / "tiny.zarr")
    train = dict(train)
    norm = train.pop("norm", "batch")
    tree = tiny.experiment(root / "tiny.zarr", **train)
    tree["data"]["coarsen"] = [1, 2]
    tree["model"] |= {"norm": norm, "widths": [6], "dilation": [1]}
    return tree


def begin(workspace: Workspace, train: Tree, folder: Path, ranks: Ranks = ALONE, **runtime: Any) -> Trainer:
    experiment = parse(Experiment, tree_of(workspace.root, train), "test")
    grids = open_grids(workspace, experiment.training, torch.device("cpu"))
    options = Runtime(device="cpu", prefetch=0, **runtime)
    return trainer_of(experiment, list(grids.values()), folder, workspace=workspace, ranks=ranks, runtime=options)


def stop_at(trainer: Trainer, method: str, call: int, signal_number: int = signal.SIGUSR1) -> None:
    """Have this process signalled during a call of a method of the stepper."""
    inner, calls = getattr(trainer.stepper, method), [0]

    def outer(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            os.kill(os.getpid(), signal_number)
        return inner(*args)

    setattr(trainer.stepper, method, outer)


def same(a: Any, b: Any, where: str = "") -> None:
    """Compare two states at tolerance 0; times that were taken may differ."""
    if isinstance(a, Mapping):
        assert a.keys() == b.keys(), where
        for key in a.keys() - {"seconds", "train/seconds"}:
            same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (one, other) in enumerate(zip(a, b, strict=True)):
            same(one, other, f"{where}[{i}]")
    elif isinstance(a, Tensor):
        assert torch.equal(a, b), f"{where}: {float((a.double() - b.double()).abs().max()):.1e}"
    else:
        assert a == b, where


def close(a: dict[str, Any], b: dict[str, Any], validation: float = 1e-5) -> None:
    """Compare what is known of each epoch: equal but for the order of sums, within 1e-5 in training."""
    for one, other in zip(a["state"]["place"]["history"], b["state"]["place"]["history"], strict=True):
        for name in one.keys() - {"train/seconds"}:
            rtol = 1e-5 if name.startswith("train") else validation
            # Biases and differences of gradients, in physical units, may be near zero.
            atol = 0.0 if "loss" in name or "nrmse" in name else 100 * rtol
            np.testing.assert_allclose(other[name], one[name], rtol=rtol, atol=atol, err_msg=name)


def whole(ranks: Ranks, workspace: Workspace, train: Tree, folder: Path) -> dict[str, Any]:
    trainer = begin(workspace, train, folder, ranks)
    trainer.run()
    return outcome(trainer)


def outcome(trainer: Trainer) -> dict[str, Any]:
    return {"state": trainer.state_dict(), "handed on": trainer.weights()}


def in_parts(ranks: Ranks, workspace: Workspace, train: Tree, folder: Path, method: str, call: int) -> dict[str, Any]:
    """Stopped, then run to the end; one rank alone is signalled."""
    trainer = begin(workspace, train, folder, ranks)
    if ranks.rank == ranks.world_size - 1:
        stop_at(trainer, method, call)
    with pytest.raises(Interrupted, match="stopped by SIGUSR1"):
        trainer.run()
    return {}


def resumed(ranks: Ranks, workspace: Workspace, train: Tree, folder: Path) -> dict[str, Any]:
    rest = begin(workspace, train, folder, ranks)
    assert rest.resume()
    rest.run()
    return outcome(rest)


def on(n: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    return run_ranks(function, n, *args) if n > 1 else [function(ALONE, *args)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2])
def test_it_is_exact(prepared: Workspace, n: int, kind: str, tmp_path: Path) -> None:
    """Stopped in mid-epoch, in the last batch of an epoch, in the next, and in mid-validation, in an epoch or at its end."""
    train = KINDS[kind]
    expected = on(n, whole, prepared, train, tmp_path / "whole")
    batches = len(begin(prepared, train, tmp_path / "none").loaders[0])
    micro = 2 if kind == "everything" else 1
    for method, call in (
        ("train_batch", 2),
        ("train_batch", micro * batches),
        ("train_batch", micro * batches + 1),
        ("validate_batch", 1),
    ):
        folder = tmp_path / f"{method}-{call}"
        on(n, in_parts, prepared, train, folder, method, call)
        for one, other in zip(expected, on(n, resumed, prepared, train, folder), strict=True):
            same(one, other)


# Biases before batch norm have a gradient of round-off alone, of which Adam makes full steps: training does not see them, but
# validation does, by the averages.
@pytest.mark.parametrize(("n", "norm", "validation"), [(2, "none", 1e-5), (3, "instance", 1e-5), (2, "batch", 1e-2)])
def test_ranks_make_the_curve_of_one(prepared: Workspace, n: int, norm: str, validation: float, tmp_path: Path) -> None:
    train = {
        **PLAIN,
        "norm": norm,
        "passes": [1, 1],
        "loss": {"area_weighted": True},
        "rollout_validation": {"days": 15, "starts": 4},
    }
    (alone,) = on(1, whole, prepared, train, tmp_path / "alone")
    together = on(n, whole, prepared, train, tmp_path / "together")
    for one in together[1:]:
        same(one["state"]["model"], together[0]["state"]["model"])
        same(one["state"]["place"], together[0]["state"]["place"])
    close(alone, together[0], validation)


def test_another_number_of_ranks_goes_on(prepared: Workspace, tmp_path: Path) -> None:
    """To round-off: sums are in another order."""
    (expected,) = on(1, whole, prepared, PLAIN, tmp_path / "whole")
    on(2, in_parts, prepared, PLAIN, tmp_path / "parts", "train_batch", 3)
    (rest,) = on(1, resumed, prepared, PLAIN, tmp_path / "parts")
    close(expected, rest, 1e-2)


def test_states_are_saved_every_few_steps_and_the_last_two_kept(prepared: Workspace, tmp_path: Path) -> None:
    trainer = begin(prepared, PLAIN, tmp_path, checkpoint_steps=2)
    saved: list[int] = []
    inner = trainer.store.save
    trainer.store.save = lambda state, step: (saved.append(step), inner(state, step))[1]  # type: ignore[method-assign]
    trainer.run()
    batches = len(trainer.loaders[0])
    assert sorted({*range(2, 2 * batches + 1, 2), batches, 2 * batches}) == sorted(set(saved))
    assert len(trainer.store.files) == 2


def test_a_torn_state_is_put_aside_and_the_one_before_it_taken(
    prepared: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = whole(ALONE, prepared, PLAIN, tmp_path / "whole")
    parts = partial(begin, prepared, PLAIN, tmp_path / "parts", checkpoint_steps=1)
    trainer = parts()
    stop_at(trainer, "train_batch", 4)
    with pytest.raises(Interrupted):
        trainer.run()
    newest, before = trainer.store.files
    newest.write_bytes(newest.read_bytes()[:-1000])
    rest = parts()
    assert rest.resume()
    assert rest.place.step == int(before.stem)
    assert f"warning: {newest}: can't resume from it" in capsys.readouterr().err
    rest.run()
    same(expected, outcome(rest))


def killed_while_saving(workspace: Workspace, folder: Path) -> None:
    """Train until the third state is half on the disk."""
    saves = [0]

    def save(content: Any, file: Any) -> None:
        saves[0] += 1
        torch_save(content, file)
        if saves[0] == 3:
            file.flush()
            os.truncate(file.name, file.tell() // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch_save, torch.save = torch.save, save
    begin(workspace, PLAIN, folder, checkpoint_steps=1).run()


def test_one_killed_while_a_state_is_written_goes_on_from_the_one_before(prepared: Workspace, tmp_path: Path) -> None:
    expected = whole(ALONE, prepared, PLAIN, tmp_path / "whole")
    process = multiprocessing.get_context("spawn").Process(
        target=killed_while_saving, args=(prepared, tmp_path / "parts")
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    rest = begin(prepared, PLAIN, tmp_path / "parts", checkpoint_steps=1)
    assert rest.resume()
    assert rest.place.step == 2
    rest.run()
    same(expected, outcome(rest))
    assert not list((tmp_path / "parts").glob("*.partial")), "what was left half written is cleared away"


def test_ctrl_c_twice_ends_at_once(prepared: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocean_emulators.train.stopping._ONCE_S", 0.0)
    trainer = begin(prepared, PLAIN, tmp_path)
    stop_at(trainer, "train_batch", 1, signal.SIGINT)
    inner = trainer.stepper.train_batch

    def once_more(*args: Any) -> Any:
        output = inner(*args)
        os.kill(os.getpid(), signal.SIGINT)
        return output

    trainer.stepper.train_batch = once_more  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
