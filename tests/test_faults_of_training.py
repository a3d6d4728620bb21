"""What can go wrong while a model is trained: losses that are not finite, disks, and records; told, and nothing lost."""

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from launchers.jobs import TrackedJob
from ocean_emulators.build import open_grids
from ocean_emulators.config.base import parse
from ocean_emulators.datasets.loading.samplers import BatchSampler
from ocean_emulators.datasets.loading.train_data import Batch
from ocean_emulators.distributed import ALONE, Ranks
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment, load_experiment
from ocean_emulators.finding import OUTPUT
from ocean_emulators.runtime import Runtime
from ocean_emulators.tracking.base import TRACKERS, Copy
from ocean_emulators.tracking.events import End, Event, Metrics
from ocean_emulators.tracking.provenance import Provenance
from ocean_emulators.tracking.record import About, runs_in
from ocean_emulators.train.optimisation import NotFiniteError, Optimisation
from ocean_emulators.train.parts import Reports
from ocean_emulators.train.trainer import Trainer
from ocean_emulators.workspace import Workspace
from tests import tiny
from tests.disks import FULL, READ_ONLY, fill, small_disk
from tests.pipeline import configure, new_workspace, run_stage
from tests.ranks import run_ranks
from tests.trainers import trainer_of

Tree = dict[str, Any]
PLAIN: Tree = {"epochs": 2, "rollout_steps": [1], "batch_size": 16}
BAD = 40
"""the time whose state holds a value that no ocean has"""
DATE = "2000-07-22"


def tree_of(root: Path, train: Tree) -> Tree:
    tree = tiny.experiment(root / "tiny.zarr", **train)
    tree["model"] |= {"norm": "batch", "widths": [6], "dilation": [1]}
    return tree


def make(root: Path, spoil: Callable[[Any], None] = lambda dataset: None) -> Workspace:
    root.mkdir(parents=True, exist_ok=True)
    dataset = tiny.dataset()
    spoil(dataset)
    dataset.to_zarr(root / "tiny.zarr", zarr_format=2)
    workspace = new_workspace(root, tree_of(root, PLAIN))
    for stage in ("prepare", "stats"):
        run_stage(workspace, stage)
    return workspace


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def spoilt(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One value of one time is such that its square is not finite; normalised as without it."""

    def spoil(dataset: Any) -> None:
        y, x = np.argwhere(dataset["mask_1"].values)[9]
        dataset["so_1"][BAD, y, x] = 3e25

    workspace = make(tmp_path_factory.mktemp("spoilt"), spoil)
    shutil.rmtree(workspace.statistics)
    shutil.copytree(prepared.statistics, workspace.statistics)
    return workspace


def begin(
    workspace: Workspace,
    folder: Path,
    train: Tree,
    ranks: Ranks = ALONE,
    model: Tree | None = None,
    runtime: Tree | None = None,
) -> Trainer:
    tree = tree_of(workspace.root, PLAIN | train)
    tree["model"] |= model or {}
    experiment = parse(Experiment, tree, "test")
    grids = open_grids(workspace, experiment.training, torch.device("cpu"))
    options = Runtime(device="cpu", prefetch=0, **(runtime or {}))
    return trainer_of(experiment, list(grids.values()), folder, workspace=workspace, ranks=ranks, runtime=options)


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    """A copy of the weights without the statistics of normalisation layers."""
    return {name: p.detach().clone() for name, p in trainer.stepper.model.named_parameters()}


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_an_absurd_learning_rate_ends_in_one_message(prepared: Workspace, norm: str, tmp_path: Path) -> None:
    rate = {"learning_rate": 1000, "rollout_steps": [4], "schedule": {"warmup_fraction": 0}}
    trainer = begin(prepared, tmp_path, rate, model={"norm": norm}, runtime={"checkpoint_steps": 1})
    before: list[dict[str, Tensor]] = []
    inner = trainer.stepper.train_batch

    def train_batch(*args: Any) -> Any:
        before.append(weights_of(trainer))
        return inner(*args)

    trainer.stepper.train_batch = train_batch  # type: ignore[method-assign]
    with pytest.raises(UserError) as error:
        trainer.run()
    assert re.fullmatch(
        r"epoch 1, batch \d+ of 9: the loss of \w+ at model step \d from the states of 200[01]-\d\d-\d\d "
        r"\(to 200[01]-\d\d-\d\d, grid x1\) is not finite; the weights are as they were before it, "
        r"and the last saved state is kept\. A lower "
        r"train\.learning_rate \(it is 9\d\d[\d.]* here\), .*",
        str(error.value),
    )
    torch.testing.assert_close(weights_of(trainer), before[-1], rtol=0, atol=0)
    trainer.store.wait()
    again = begin(prepared, tmp_path, rate, model={"norm": norm})
    assert again.resume()
    assert again.place.step == len(before) - 1
    torch.testing.assert_close(weights_of(again), before[-1], rtol=0, atol=0)


def bad_batches(trainer: Trainer) -> int:
    """How many batches of an epoch hold the bad value."""
    windows = trainer.loaders[0].data.windows["x1"]
    sampler = trainer.loaders[0].batches
    assert isinstance(sampler, BatchSampler)
    first, length = windows.rows.times[0], windows.length
    starts = [windows.starts[i][0] for i in range(len(windows))]
    bad = {i for i, start in enumerate(starts) if start <= first + BAD < start + length}
    return sum(bool(bad & set(draw.indices)) for draw in sampler.batches(0))


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_as_many_batches_are_left_out_as_is_allowed(spoilt: Workspace, norm: str, tmp_path: Path) -> None:
    """Without a trace, be it in the statistics of normalisation layers; and the message names what is bad in the data."""
    trainer = begin(spoilt, tmp_path / "none", {}, model={"norm": norm})
    bad = bad_batches(trainer)
    assert bad == 2
    said = rf"the data hold a value of so_1 \de\+\d\d standard deviations from the mean on {DATE} \(grid x1\): the loss is not "
    with pytest.raises(UserError, match=said):
        trainer.run()
    enough = begin(spoilt, tmp_path / "enough", {"skip_nonfinite": 2 * bad}, model={"norm": norm})
    enough.run()
    assert enough.place.skipped == 2 * bad
    for logs in enough.place.history:
        assert all(np.isfinite(value) for value in logs.values())
    assert all(bool(torch.isfinite(t).all()) for t in enough.stepper.model.state_dict().values())
    fewer = begin(spoilt, tmp_path / "fewer", {"skip_nonfinite": 2 * bad - 1}, model={"norm": norm})
    with pytest.raises(UserError, match=rf"{said}finite, after {2 * bad - 1} that were left out; the weights"):
        fewer.run()
    assert fewer.place.epoch == 1
    again = begin(spoilt, tmp_path / "fewer", {"skip_nonfinite": 2 * bad - 1}, model={"norm": norm})
    assert again.resume()
    assert (again.place.epoch, again.place.skipped) == (1, bad)


def refusal(ranks: Ranks, workspace: Workspace, folder: Path, train: Tree) -> tuple[str, bool, int]:
    """What a rank that is refused says, whether it had the bad value, and how many batches were left out before."""
    trainer = begin(workspace, folder, train, ranks)
    had: list[bool] = []
    inner = trainer.stepper.train_batch

    def train_batch(batch: Batch, *args: Any) -> Any:
        had.append(bool((batch.prognostic.abs() > 1e10).any()))
        return inner(batch, *args)

    trainer.stepper.train_batch = train_batch  # type: ignore[method-assign]
    with pytest.raises(UserError) as error:
        trainer.run()
    return str(error.value), had[-1], trainer.place.skipped


def test_a_rank_whose_own_windows_are_good_says_the_same(spoilt: Workspace, tmp_path: Path) -> None:
    train = {"batch_size": 8, "skip_nonfinite": 1, "loss": {"dynamic": {"limit": 20}}}
    (said, had, _), (other, other_had, n) = run_ranks(refusal, 2, spoilt, tmp_path, train)
    assert had != other_had
    assert said == other
    assert f"on {DATE} (grid x1)" in said
    assert n == 2


def float16(prepared: Workspace, folder: Path) -> Optimisation:
    return begin(prepared, folder, {}, model={"precision": "float16"}).optimisation


def test_float16_that_overflows_lowers_the_factor_and_goes_on(prepared: Workspace, tmp_path: Path) -> None:
    """And a loss that is itself not finite is no overflow."""
    optimisation = float16(prepared, tmp_path)
    (first, *_), before = optimisation.parameters, optimisation.parameters[0].detach().clone()
    scale = optimisation.scaler.get_scale()
    optimisation.backward(first.sum() * 3e35)  # times the factor, that is more than float32 holds
    assert not optimisation.step()
    assert optimisation.scaler.get_scale() == scale / 2
    assert torch.equal(first, before)
    optimisation.backward(first.sum())
    assert optimisation.step()
    assert not torch.equal(first, before)
    for bad in (torch.nan, torch.inf):
        optimisation.backward(first.sum() * bad)
        with pytest.raises(NotFiniteError):
            optimisation.step()
        assert optimisation.scaler.get_scale() == scale / 2


def test_a_training_in_float16_that_begins_with_overflows_learns(prepared: Workspace, tmp_path: Path) -> None:
    trainer = begin(prepared, tmp_path, {"epochs": 3}, model={"precision": "float16"})
    trainer.optimisation.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    trainer.run()
    assert trainer.optimisation.scaler.get_scale() < 2.0**24
    losses = [logs["train/mean/loss"] for logs in trainer.place.history]
    assert losses[-1] < 0.9 * losses[0]
    assert trainer.averages.state_dict()["updates"] < trainer.place.step


# Disks


def test_a_disk_that_gets_full_while_states_are_saved(
    prepared: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training goes on, with a warning for each state; the earlier one can be gone on from."""
    train = {"epochs": 4}
    whole = begin(prepared, tmp_path / "whole", train)
    whole.run()
    disk = tmp_path / "small"
    with small_disk(disk, "size=8m"):
        trainer = begin(prepared, disk / "states", train)

        def full_after_two(epoch: int, logs: dict[str, float]) -> None:
            if epoch == 2:
                trainer.store.wait()
                fill(disk)

        trainer.reports = Reports(full_after_two)
        trainer.run()
        assert trainer.place.epoch == 4
        torch.testing.assert_close(weights_of(trainer), weights_of(whole), rtol=0, atol=0)
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 2
        assert all(re.fullmatch(rf"warning: .*: {FULL}; training goes on, and would .*", line) for line in said), said
        (disk / "rest").unlink()
        rest = begin(prepared, disk / "states", train)
        assert rest.resume()
        assert rest.place.epoch == 2
        rest.run()
        torch.testing.assert_close(weights_of(rest), weights_of(whole), rtol=0, atol=0)


def test_best_weights_that_can_not_be_saved_end_training_and_it_goes_on_later(
    prepared: Workspace, tmp_path: Path
) -> None:
    """They are what is handed on: it stops rather than hand on others."""
    train = {"epochs": 3, "hand_on": "best"}
    whole = begin(prepared, tmp_path / "whole", train)
    whole.run()
    disk = tmp_path / "small"
    with small_disk(disk, "size=8m"):
        trainer = begin(prepared, disk / "states", train)

        def full_after_each(epoch: int, logs: dict[str, float]) -> None:
            trainer.store.wait()
            fill(disk)

        trainer.reports = Reports(full_after_each)
        with pytest.raises(UserError, match=FULL):
            trainer.run()
        (disk / "rest").unlink()
        rest = begin(prepared, disk / "states", train)
        assert rest.resume()
        assert rest.place.epoch == 1
        rest.run()
        for one, other in zip(rest.weights(), whole.weights(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_folder_that_may_not_be_written_to(
    prepared: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "small", "ro"):
        trainer = begin(prepared, tmp_path / "small/states", {})
        trainer.run()
    assert trainer.place.epoch == 2
    assert READ_ONLY.split(";")[0] in capsys.readouterr().err


# Records


class Failing:
    """A tracker, in memory, that is away for a while."""

    id = address = "failing"

    def __init__(self, away: range) -> None:
        self.away, self.calls, self.kept = away, 0, dict[int, set[str]]()
        self.ended: list[End] = []

    def require(self) -> None:
        """It can be used."""

    def open(self, about: About, files: Path, known: str | None) -> Copy:
        return self

    def take(self, events: Sequence[Event], first: int) -> None:
        self.calls += 1
        if self.calls in self.away:
            raise ConnectionError("no route to the tracker")
        for event in events:
            match event.what:
                case Metrics(values, step):
                    self.kept.setdefault(step, set()).update(values)
                case End():
                    self.ended.append(event.what)

    def close(self) -> None:
        """It holds nothing."""


def tracked(workspace: Workspace, tracker: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stage `train`, with a record of it."""
    TRACKERS.register("failing")(lambda home: tracker)
    monkeypatch.setenv("OCEAN_EMULATORS_TRACKER", "failing")
    experiment = load_experiment(workspace.params)
    try:
        run_stage(workspace, "train", lambda job: TrackedJob("train", job, experiment, Provenance({}, "data"))())
    finally:
        TRACKERS.remove("failing")


def test_a_tracker_that_goes_away_and_comes_back(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training goes on, one warning is given, and the tracker gets all, once it answers."""
    configure(workspace, tiny.experiment(workspace.root / "tiny.zarr", epochs=4))
    tracker = Failing(range(1, 2))
    tracked(workspace, tracker, monkeypatch)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith(
        "WARNING: failing (failing) takes nothing: no route to the tracker. The work goes on; its record"
    )
    assert said[0].endswith("what is missing there is sent as soon as it answers, or by `ocean-emulators runs sync`")
    assert said[1] == "failing (failing) answers again, and has all"
    assert [step for step, names in sorted(tracker.kept.items()) if "train/mean/loss" in names] == [1, 2, 3, 4]
    assert tracker.ended == [End("train", "done")]
    assert len(pd.read_csv(workspace.training.history)) == 4


def test_a_tracker_that_stays_away_loses_nothing(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage ends well, and all is in the record."""
    configure(workspace, tiny.experiment(workspace.root / "tiny.zarr", epochs=3))
    tracker = Failing(range(1, 1000))
    tracked(workspace, tracker, monkeypatch)
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not tracker.kept
    (run,) = runs_in(workspace.home)
    assert run.contents().done == {"train"}
    assert [step for step, names in run.contents().names.items() if "train/mean/loss" in names] == [1, 2, 3]
    assert len(pd.read_csv(workspace.training.history)) == 3


def test_what_dvc_puts_beside_results_is_none(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later stage records those of an earlier one from where DVC has them."""
    monkeypatch.setenv("OCEAN_EMULATORS_TRACKER", "none")
    (workspace.training.folder / ".gitignore").write_text("/checkpoint.pt\n")
    experiment = load_experiment(workspace.params)
    run_stage(workspace, "evaluate", lambda job: TrackedJob("evaluate", job, experiment, Provenance({}, "data"))())
    (run,) = runs_in(workspace.home)
    left = {name.removeprefix(OUTPUT) for name in run.contents().tags if name.startswith(OUTPUT)}
    assert {name for name in left if name.startswith("train/")} == {
        "train/checkpoint.pt", "train/history.csv", "train/validation_maps",
    }  # fmt: skip
    assert "evaluate/predictions.zarr" in left
