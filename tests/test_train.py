"""Training: it learns, it can be interrupted without a trace, and its average is one."""

import itertools
import math
from pathlib import Path

import pytest
import torch

from ocean_emulators.build import context_of
from ocean_emulators.config.base import parse
from ocean_emulators.datasets.loading.samplers import BatchSampler
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.datasets.statistics.compute import compute_statistics
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore, open_store, store_path
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment
from ocean_emulators.tensors import load_tensors, save_tensors
from ocean_emulators.train.schedules import ScheduleConfig
from tests import tiny
from tests.trainers import trainer_of


@pytest.fixture
def grid(store: PackedStore, statistics: Statistics) -> PreparedGrid:
    return PreparedGrid.of("x1", store, statistics)


def test_it_learns(grid: PreparedGrid, tmp_path: Path) -> None:
    experiment = parse(Experiment, tiny.experiment(epochs=4, rollout_steps=[1], batch_size=8), "tiny")
    trainer = trainer_of(experiment, [grid], tmp_path)
    trainer.run()
    losses = [logs["train/mean/loss"] for logs in trainer.place.history]
    assert losses[-1] < 0.8 * losses[0]
    assert trainer.place.history[-1]["val/mean/loss"] < trainer.place.history[0]["val/mean/loss"]
    assert trainer.place.history[-1]["train/loss/variable/zos"] == trainer.place.history[-1]["train/loss/channel/zos"]


def test_another_seed_is_another_run(grid: PreparedGrid, tmp_path: Path) -> None:
    first, again, other = (
        trainer_of(parse(Experiment, tiny.experiment(seed=seed), "tiny"), [grid], tmp_path).stepper.model.state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["decoder.weight"], other["decoder.weight"])


def test_without_a_checkpoint_there_is_nothing_to_resume(
    grid: PreparedGrid, experiment: Experiment, tmp_path: Path
) -> None:
    assert not trainer_of(experiment, [grid], tmp_path).resume()


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    schedule = ScheduleConfig(warmup_fraction=0.1)
    rates = [schedule.share(step, 100) for step in range(101)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))


def test_a_save_that_fails_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_tensors({"epoch": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        save_tensors({"epoch": 2, "bad": lambda: None}, path)
    assert load_tensors(path) == {"epoch": 1}


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint here"):
        load_tensors(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(UserError, match=r"text.pt: can't be read as a checkpoint"):
        load_tensors(tmp_path / "text.pt")


def test_several_resolutions_are_trained_together(experiment: Experiment, tmp_path: Path) -> None:
    """Each as often as asked for, scored apart, normalised like the first, and interrupted without a trace."""
    tree = tiny.experiment(experiment.data.source, epochs=2, rollout_steps=[1], passes=[1, 0.5])
    tree["data"]["coarsen"] = [1, 2, 4]
    tree["model"] |= {"widths": [6], "dilation": [1]}
    both = parse(Experiment, tree, "tiny")
    prepare(both.data, tmp_path / "prepared")
    stores = {name: open_store(store_path(tmp_path / "prepared", name)) for name in both.training.passes}
    statistics = compute_statistics(stores["x1"], both.data.periods.train)
    grids = [PreparedGrid.of(name, store, statistics) for name, store in stores.items()]
    assert [grid.store.grid.shape for grid in grids] == [(16, 32), (8, 16)]

    whole = trainer_of(both, grids, tmp_path / "whole")
    sampler = whole.loaders[0].batches
    assert isinstance(sampler, BatchSampler)
    draws = sampler.batches(epoch=0)
    shown = [sum(len(draw.indices) for draw in draws if draw.grid == name) for name in ("x1", "x2")]
    assert shown == [145, round(0.5 * 145)]
    whole.run()
    for name in ("train/mean/loss", "train/x2/mean/loss", "val/mean/loss", "val/x2/mean/loss"):
        assert 0 < whole.place.history[1][name] < whole.place.history[0][name], name
    assert not any("x4" in name for name in whole.place.history[0])

    # The weights belong to no grid: they load into a model for one that was not trained on.
    coarsest = open_store(store_path(tmp_path / "prepared", "x4"))
    both.model.build(context_of(PreparedGrid.of("x4", coarsest, statistics))).load_state_dict(
        whole.stepper.model.state_dict()
    )
