"""Lengths of rollouts, learning rates, averages, and which weights are handed on: the rules of training, one by one."""

import copy
import itertools
import math
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch_ema import ExponentialMovingAverage

from ocean_emulators.config.base import parse
from ocean_emulators.datasets.loading.samplers import BatchSampler
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.distributed import Ranks
from ocean_emulators.errors import Interrupted, UserError
from ocean_emulators.experiment import Experiment
from ocean_emulators.outlook import count_windows
from ocean_emulators.runtime import Runtime
from ocean_emulators.train.averages import Averages
from ocean_emulators.train.config import TrainConfig
from ocean_emulators.train.parts import QUIET, START_LOSS, Reports
from ocean_emulators.train.rollout_steps import Phases
from ocean_emulators.train.schedules import Plateaus, ScheduleConfig
from ocean_emulators.train.trainer import Trainer
from tests import tiny
from tests.pipeline import RUNTIME
from tests.trainers import trainer_of

# Lengths of rollouts


def config(**train: Any) -> TrainConfig:
    return parse(
        TrainConfig, {"epochs": 6, "batch_size": 2, "learning_rate": 1e-3, "rollout_steps": [1], **train}, "train"
    )


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_phases_last_as_long_as_they_are_said_to(epochs: list[int]) -> None:
    steps = list(range(1, len(epochs) + 1))
    phases = Phases(config(epochs=sum(epochs), rollout_steps=steps, rollout_epochs=epochs))
    lengths = [phases.phases[phases.of(epoch)].model_steps(epoch, 3) for epoch in range(sum(epochs))]
    assert lengths == [k for k, n in zip(steps, epochs, strict=True) for _ in range(n)]


@given(st.integers(1, 60), st.integers(1, 6))
def test_without_lengths_phases_share_the_epochs_alike(epochs: int, n: int) -> None:
    n = min(n, epochs)
    phases = Phases(config(epochs=epochs, rollout_steps=list(range(1, n + 1))))
    counts = Counter(phases.of(epoch) for epoch in range(epochs))
    assert sorted(counts) == list(range(n))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert [phases.of(epoch) for epoch in range(epochs)] == sorted(phases.of(epoch) for epoch in range(epochs))


def test_drawn_lengths_have_their_probabilities_and_are_a_pure_function() -> None:
    odds = {"rollout_steps": [1, 2, 4], "rollout_probabilities": [0.5, 0.3, 0.2]}
    (phase,) = Phases(config(**odds)).phases
    (again,) = Phases(config(**odds)).phases
    (other,) = Phases(config(**odds, seed=2)).phases
    torch.manual_seed(0)
    places = [(epoch, position) for epoch in range(40) for position in range(100)]
    drawn = [phase.model_steps(*place) for place in places]
    before = torch.get_rng_state()
    assert [again.model_steps(*place) for place in reversed(places)] == drawn[::-1]
    assert torch.equal(torch.get_rng_state(), before)
    assert sum(a != other.model_steps(*place) for a, place in zip(drawn, places, strict=True)) > 0.4 * len(places)
    for steps, odd in ((1, 0.5), (2, 0.3), (4, 0.2)):
        assert drawn.count(steps) / len(drawn) == pytest.approx(odd, abs=4 * math.sqrt(odd / len(drawn)))


def test_drawn_lengths_are_the_same_on_all_ranks() -> None:
    (phase,) = Phases(config(rollout_steps=[1, 2, 4], rollout_probabilities=[0.5, 0.3, 0.2])).phases
    of_ranks = []
    for rank in range(3):
        sampler = BatchSampler({"x1": 100}, 6, 1, ranks=Ranks(rank, 3), model_steps=phase.model_steps)
        sampler.set_epoch(2)
        of_ranks.append([draw.model_steps for draw in sampler])
    assert of_ranks[0] == of_ranks[1] == of_ranks[2]
    assert of_ranks[0] == [phase.model_steps(2, position) for position in range(17)]


# Learning rates


def published(epochs: int, warmup: int = 0, start: float = 1.0, tail: int = 0, final: float = 0.0) -> list[float]:
    """Rates by epoch of torch's schedulers, put together as in m2lines/Samudra, `utils/schedule.py`."""
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(()))], lr=1.0)
    cosine = CosineAnnealingLR(optimizer, T_max=epochs - warmup - tail, eta_min=final)
    schedule: Any = cosine
    if warmup:
        optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(()))], lr=1.0)
        rise = LinearLR(optimizer, start_factor=start, total_iters=warmup)
        cosine = CosineAnnealingLR(optimizer, T_max=epochs - warmup, eta_min=final)
        schedule = SequentialLR(optimizer, [rise, cosine], milestones=[warmup])
    rates = []
    for _ in range(epochs - tail):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates + [final] * tail


def shares(epochs: int, **schedule: Any) -> list[float]:
    rule = ScheduleConfig(every="epoch", **schedule)
    return [rule.share(epoch, epochs) for epoch in range(epochs)]


def test_rates_by_epoch_are_the_published_ones() -> None:
    assert shares(70, warmup_fraction=0) == pytest.approx(published(70), abs=1e-12)
    rise = shares(25, warmup_fraction=5 / 25, warmup_start=0.1)
    assert rise == pytest.approx(published(25, warmup=5, start=0.1), abs=1e-12)
    tail = shares(50, warmup_fraction=0, tail_fraction=10 / 50, final=0.1)
    assert tail == pytest.approx(published(50, tail=10, final=0.1), abs=1e-12)
    assert tail[40:] == [0.1] * 10


@given(st.integers(1, 100), st.integers(1, 10_000))
def test_a_share_in_per_cent_is_of_whole_steps(percent: int, hundreds: int) -> None:
    """0.29 · 100 is 28.999… in floating point."""
    steps = percent * hundreds
    if percent == 100:
        return
    rule = ScheduleConfig(type="constant", warmup_fraction=percent / 100)
    assert rule.share(steps - 1, 100 * hundreds) < 1
    assert rule.share(steps, 100 * hundreds) == 1


@given(
    st.integers(1, 500),
    st.floats(0, 0.9),
    st.floats(0, 0.9),
    st.floats(0, 0.9),
    st.floats(0, 1),
    st.sampled_from(["cosine", "constant", "plateau"]),
)
def test_rates_rise_and_then_fall_between_their_bounds(
    length: int, warmup: float, start: float, tail: float, final: float, kind: Any
) -> None:
    rule = ScheduleConfig(type=kind, warmup_fraction=warmup, warmup_start=start, tail_fraction=tail, final=final)
    rates = [rule.share(place, length) for place in range(length)]
    assert all(0 <= rate <= 1 + 1e-12 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    falling = [-rate for rate in rates[top:]]
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(falling))
    assert all(rate > 0 for rate in rates if final > 0 or kind != "cosine")


def test_a_plateau_lowers_the_rate_as_torch_does() -> None:
    rule = Plateaus(ScheduleConfig(type="plateau", plateau_factor=0.5, plateau_patience=2))
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(()))], lr=1.0)
    # Torch counts the validations that are borne, one less than make a plateau.
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, threshold=0, eps=0)
    for loss in (5, 4, 4.5, 4.2, 3, 3, 3, 3, 3, 2, 9, 1, 1, 1, math.nan, math.nan, 0.5):
        rule.see(loss)
        torchs.step(loss)
        assert rule.factor == optimizer.param_groups[0]["lr"], loss


# Averages


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.floats(0, 0.999), st.booleans())
def test_averages_follow_the_published_rule_and_torch_ema(steps: int, decay: float, warmup: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    averages = Averages(model, decay, warmup)
    theirs = ExponentialMovingAverage(model.parameters(), decay, use_num_updates=warmup)
    expected = {name: p.detach().double().clone() for name, p in model.named_parameters()}
    for n in range(1, steps + 1):
        with torch.no_grad():
            for p in model.parameters():
                p += torch.randn_like(p)
        averages.update()
        theirs.update()
        d = min(decay, (1 + n) / (10 + n)) if warmup else decay
        for name, p in model.named_parameters():
            expected[name] -= (1 - d) * (expected[name] - p.detach().double())
    state = averages.averaged_state()
    for (name, value), other in zip(expected.items(), theirs.shadow_params, strict=True):
        torch.testing.assert_close(state[name].double(), value, rtol=1e-5, atol=1e-5)
        assert torch.equal(state[name], other)


def test_averaged_weights_have_the_statistics_that_belong_to_them() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    averages = Averages(model, 0.5, warmup=False)
    mean, n = torch.zeros(3), 0
    for _ in range(5):
        model(torch.randn(8, 2))
        averages.update()
        mean, n = 0.5 * mean + 0.5 * model[1].running_mean, n + 1
    raw = copy.deepcopy(model.state_dict())
    with averages.applied():
        torch.testing.assert_close(model[1].running_mean, mean)
        assert model[1].num_batches_tracked == n
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, raw[name])


# Which weights are handed on


@pytest.fixture
def grid(store: PackedStore, statistics: Statistics) -> PreparedGrid:
    return PreparedGrid.of("x1", store, statistics)


def begin(
    grid: PreparedGrid, folder: Path, reports: Reports = QUIET, runtime: Runtime = RUNTIME, **train: Any
) -> Trainer:
    tree = tiny.experiment(**{"rollout_steps": [1], "batch_size": 32, **train})
    tree["model"] |= {"widths": [4], "dilation": [1]}
    return trainer_of(parse(Experiment, tree, "test"), [grid], folder, reports, runtime=runtime)


def scored(trainer: Trainer, losses: list[float]) -> list[dict[str, torch.Tensor]]:
    """Let validations come to these losses; the averaged weights at each, filled in while it runs."""
    seen: list[dict[str, torch.Tensor]] = []
    inner = trainer.validation.aggregator.get_logs

    def get_logs() -> dict[str, float]:
        seen.append({n: t.clone() for n, t in trainer.stepper.model.state_dict().items()})
        return inner() | {"val/mean/loss": losses[len(seen) - 1]}

    trainer.validation.aggregator.get_logs = get_logs  # type: ignore[method-assign]
    return seen


def test_the_weights_of_the_best_epoch_are_handed_on(grid: PreparedGrid, tmp_path: Path) -> None:
    trainer = begin(grid, tmp_path, epochs=5, hand_on="best")
    seen = scored(trainer, [3.0, 1.0, math.nan, 2.0, 1.0])
    trainer.run()
    _, averaged = trainer.weights()
    assert trainer.best.step == 2 * len(trainer.loaders[0])
    assert all(torch.equal(averaged[name], tensor) for name, tensor in seen[1].items())
    assert any(not torch.equal(averaged[name], tensor) for name, tensor in seen[4].items())
    again = begin(grid, tmp_path, epochs=5, hand_on="best")
    assert again.resume()
    assert all(torch.equal(again.weights()[1][name], tensor) for name, tensor in averaged.items())


def test_where_no_epoch_is_better_than_another_the_last_is_handed_on(grid: PreparedGrid, tmp_path: Path) -> None:
    trainer = begin(grid, tmp_path, epochs=2, hand_on="best")
    seen = scored(trainer, [math.nan, math.inf])
    trainer.run()
    assert all(torch.equal(trainer.weights()[1][name], tensor) for name, tensor in seen[1].items())


def test_training_ends_early_and_stays_ended(grid: PreparedGrid, tmp_path: Path) -> None:
    early = {"epochs": 9, "early_stopping": {"patience": 2}}
    trainer = begin(grid, tmp_path, **early)
    scored(trainer, [3.0, 2.0, 2.5, 1.0, 1.0, 1.5])
    trainer.run()
    assert trainer.place.epoch == 6
    again = begin(grid, tmp_path, **early)
    assert again.resume()
    assert again.over
    again.run()
    assert again.place.epoch == 6


def test_patience_counts_validations(grid: PreparedGrid, tmp_path: Path) -> None:
    """Every third epoch and the last have one; in between the history has no numbers of it."""
    trainer = begin(grid, tmp_path, epochs=8, validate_every=3, early_stopping={"patience": 3})
    seen = scored(trainer, [1.0, 2.0, 3.0])
    trainer.run()
    assert len(seen) == 3
    assert [n for n, logs in enumerate(trainer.place.history, start=1) if "val/mean/loss" in logs] == [3, 6, 8]


def telling() -> tuple[list[tuple[int, dict[str, float]]], Reports]:
    """What a training tells within its epochs, but for the losses of its first steps."""
    told: list[tuple[int, dict[str, float]]] = []

    def progress(step: int, logs: dict[str, float]) -> None:
        logs.pop(START_LOSS, None)
        if logs:
            told.append((step, logs))

    return told, Reports(progress=progress)


def test_validations_within_epochs_choose_too(grid: PreparedGrid, tmp_path: Path) -> None:
    """Epochs of five batches, each second one of which has a validation at its end: after steps 3, 6, 9, 10, 12, 15, 18, 20."""
    told, reports = telling()
    trainer = begin(grid, tmp_path, reports, epochs=4, passes=[1.1], validate_every=2, validate_steps=3, hand_on="best")
    assert len(trainer.loaders[0]) == 5
    seen = scored(trainer, [9.0, 8.0, 7.0, 6.0, 1.0, 5.0, 4.0, 3.0])
    trainer.run()
    assert [step for step, _ in told] == [3, 6, 9, 12, 15, 18]
    assert [logs["val/mean/loss"] for _, logs in told] == [9.0, 8.0, 7.0, 1.0, 5.0, 4.0]
    assert [n for n, logs in enumerate(trainer.place.history, 1) if "val/mean/loss" in logs] == [2, 4]
    assert (trainer.best.step, trainer.best.waited) == (12, 3)
    assert all(torch.equal(trainer.weights()[1][name], tensor) for name, tensor in seen[4].items())


def test_an_epoch_that_has_begun_is_ended(grid: PreparedGrid, tmp_path: Path) -> None:
    """Patience is over within the first epoch, and not at its end; so it is for one that was stopped in between."""
    early = {"epochs": 9, "passes": [1.1], "validate_steps": 2, "early_stopping": {"patience": 1}}
    losses = [1.0, 2.0, 0.5, 3.0, 3.0, 3.0]
    trainer = begin(grid, tmp_path / "whole", **early)
    scored(trainer, losses)
    trainer.run()
    assert (trainer.place.epoch, trainer.place.step) == (2, 10)
    stopped = begin(grid, tmp_path / "parts", **early)
    scored(stopped, losses)
    inner = stopped.validation.aggregator.get_logs

    def get_logs() -> dict[str, float]:
        if stopped.place.step == 4:
            os.kill(os.getpid(), signal.SIGUSR1)
        return inner()

    stopped.validation.aggregator.get_logs = get_logs  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        stopped.run()
    assert stopped.over
    again = begin(grid, tmp_path / "parts", **early)
    scored(again, losses[2:])
    assert again.resume()
    again.run()
    assert again.place.step == 10


def test_losses_of_each_channel_are_told_every_few_steps(grid: PreparedGrid, tmp_path: Path) -> None:
    told, reports = telling()
    trainer = begin(grid, tmp_path, reports, Runtime(device="cpu", log_steps=2), epochs=1, passes=[1.1])
    trainer.run()
    assert [step for step, _ in told] == [2, 4]
    assert set(told[0][1]) == {n.replace("train/", "train/recent/") for n in trainer.train_aggregator.log_names}


def test_a_number_of_training_can_choose_and_a_plateau_is_of_validation(grid: PreparedGrid, tmp_path: Path) -> None:
    schedule = {"type": "plateau", "plateau_patience": 1}
    trainer = begin(
        grid, tmp_path, epochs=4, validate_every=2, best_by="train/mean/loss", hand_on="best", schedule=schedule
    )
    scored(trainer, [1.0, 2.0])
    trainer.run()
    assert trainer.optimisation.plateaus.factor == 0.5
    losses = [logs["train/mean/loss"] for logs in trainer.place.history]
    assert trainer.best.step == len(trainer.loaders[0]) * (1 + losses.index(min(losses)))


def test_rollout_scores_are_part_of_the_history(grid: PreparedGrid, tmp_path: Path) -> None:
    trainer = begin(grid, tmp_path, epochs=1, rollout_validation={"days": 15, "starts": 2})
    trainer.run()
    assert set(trainer.place.history[0]) - {"train/seconds"} == set(trainer.logged)
    assert np.isfinite(trainer.place.history[0]["val/rollout/nrmse/mean"])


def test_a_field_that_is_not_predicted_can_not_choose() -> None:
    tree = tiny.experiment(best_by="val/rollout/nrmse/salt", rollout_validation={"days": 15})
    with pytest.raises(UserError, match=r"train.best_by: 'val/rollout/nrmse/salt': 'salt' is not predicted"):
        parse(Experiment, tree, "tiny")


# Refusals

PAIR = {"rollout_steps": [1, 2]}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"rollout_steps": []}, "rollout_steps"),
    (
        {"rollout_steps": [1, 2, 3], "epochs": 2},
        r"rollout_steps: found \[1, 2, 3\], of which 2 epoch\(s\) leave out 1",
    ),
    ({**PAIR, "rollout_epochs": [1]}, r"rollout_epochs: found \[1\]: expected one for each of rollout_steps, \[1, 2\]"),
    ({**PAIR, "rollout_epochs": [1, 2]}, r"rollout_epochs: found \[1, 2\], together 3: expected epochs, 6"),
    ({**PAIR, "rollout_probabilities": [1.0]}, r"rollout_probabilities: found \[1.0\]: expected one for each"),
    ({**PAIR, "rollout_probabilities": [0.5, 0.4]}, r"rollout_probabilities: .* together 0.9: expected 1"),
    ({**PAIR, "rollout_probabilities": [0.5, 0.5], "rollout_epochs": [3, 3]}, "rollout_epochs is given too"),
    ({"rollout_steps": [2, 2], "rollout_probabilities": [0.5, 0.5]}, "expected each length once"),
    ({"detach_every": 1}, r"detach_every: found 1, but rollouts of 1 model step"),
    ({"rollout_steps": [4], "detach_every": 4}, "so that nothing is cut"),
    ({"accumulation_steps": 3}, r"accumulation_steps: found 3, more than the 2 window\(s\)"),
    ({"epochs": 0}, "epochs: found 0: expected 1 or more, or initial_weights"),
    ({"strides": [2]}, "1 must be among them"),
    ({"strides": [1, 1]}, "expected each distance once"),
    ({"passes": [0, 1]}, "the first resolution"),
    ({"best_by": "val/mean/los"}, "best_by"),
    ({"best_by": "val/rollout/nrmse/mean"}, "which rollout_validation makes; set it, or choose another"),
    ({"loss": {"huber_threshold": 2}}, "huber_threshold: found 2.0, but metric is mse"),
    ({"loss": {"dynamic": {"limit": 0.5}}}, "limit"),
    ({"learning_rate": 1001}, "learning_rate"),
    ({"learning_rate": 0}, "learning_rate"),
    ({"learning_rate": math.nan}, "learning_rate"),
    ({"gradient_clip": 0}, "gradient_clip"),
    ({"ema_decay": 1}, "ema_decay"),
    ({"skip_nonfinite": -1}, "skip_nonfinite"),
    ({"validate_every": 0}, "validate_every"),
    ({"early_stopping": {"patience": 0}}, "patience"),
    ({"schedule": {"type": "cosinus"}}, "type"),
    ({"schedule": {"plateau_factor": 1}}, "plateau_factor"),
    ({"rollout_validation": {"days": 0}}, "days"),
]


@pytest.mark.parametrize(("train", "message"), REFUSED, ids=[str(train) for train, _ in REFUSED])
def test_what_makes_no_sense_is_refused(train: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(**train)


@pytest.mark.parametrize(
    ("rollouts", "message"),
    [
        ({"days": 7}, "train.rollout_validation.days: found 7: expected a multiple of the data's time step, 5 days"),
        (
            {"days": 175, "starts": 4},
            r"the validation period has room for \d start\(s\) of rollouts of 175 days, not 4",
        ),
    ],
)
def test_rollouts_that_do_not_fit_are_refused(
    rollouts: dict[str, Any], message: str, grid: PreparedGrid, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        begin(grid, tmp_path, rollout_validation=rollouts)
    experiment = parse(Experiment, tiny.experiment(rollout_validation=rollouts), "tiny")
    with pytest.raises(UserError, match=message):  # before any work, too
        count_windows(experiment, grid.store.time)
