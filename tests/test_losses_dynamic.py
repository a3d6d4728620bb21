"""Sums over a rollout, and channels that count by the inverse of their recent losses."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ocean_emulators.config.base import parse
from ocean_emulators.distributed import Ranks
from ocean_emulators.losses.config import LossConfig
from ocean_emulators.losses.rollout import RolloutLoss
from tests import published_losses as published
from tests.ranks import run_ranks

ALONE = Ranks()


def loss_of(**settings: Any) -> RolloutLoss:
    return parse(LossConfig, settings, "loss").build({"x1": published.grid()})


def batches(n: int, ranks: int) -> list[np.ndarray]:
    """Losses of batches by [rank, window, model step, slot, channel]; of each magnitude, and now and then 0."""
    rng = np.random.default_rng(0)
    shape = (ranks, 3, 4, 2, published.CHANNELS)
    losses = [(10 ** rng.uniform(-3, 1, shape)).astype("f4") for _ in range(n)]
    losses[n // 2][..., 1] = 0
    return losses


def follow(ranks: Ranks, losses: list[np.ndarray], settings: dict[str, Any]) -> list[Tensor]:
    """The scale of a rank after each batch."""
    loss, scales = loss_of(dynamic=settings), []
    for batch in losses:
        loss.observe(torch.from_numpy(batch[ranks.rank]), ranks)
        scales.append(loss.scale)
    return scales


def test_as_published() -> None:
    loss = loss_of(unit="state", normalised_by="all", dynamic={"limit": 1.2})
    raw = loss.errors(*published.fields(), "x1")[:, None]
    for factor, expected in zip((1, 2), published.SCALES, strict=True):
        loss.observe(factor * raw, ALONE)
        assert loss.scale.tolist() == pytest.approx(expected, abs=6e-7)
    by_slot = torch.tensor(published.MSE).reshape(2, 3) * torch.tensor(published.SCALES[1])
    assert loss.total(raw).item() == pytest.approx(by_slot.mean().item(), abs=1e-6)


@pytest.mark.parametrize("settings", [{}, {"limit": 20.0}, {"limit": 1.0}, {"limit": 5.0, "memory": 3}, {"memory": 1}])
def test_over_many_batches_as_the_rule_says(settings: dict[str, Any]) -> None:
    losses = batches(100, ranks=1)
    for n, scale in enumerate(follow(ALONE, losses, settings), start=1):
        assert np.allclose(scale.numpy(), published.scale_after(losses[:n], **settings), rtol=1e-5)


def test_two_ranks_have_one_scale() -> None:
    losses = batches(100, ranks=2)
    first, second = run_ranks(follow, 2, losses, {"limit": 20.0})
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    for n, scale in enumerate(first, start=1):
        assert np.allclose(scale.numpy(), published.scale_after(losses[:n], limit=20.0), rtol=1e-5)


def test_the_weights_of_fields_outlast_the_scale() -> None:
    """A scale that followed weighted losses would even them out again."""
    plain, weighted = (loss_of(field_weights=w, dynamic={"memory": 1}) for w in (None, {"so": 3.0, "uo": 0.0}))
    for loss in (plain, weighted):
        loss.observe(loss.errors(*published.fields(), "x1")[:, None], ALONE)
    assert torch.allclose(weighted.scale[:2], plain.scale[:2])
    by_channel = [(loss.errors(*published.fields(), "x1") * loss.scale).mean((0, 1)) for loss in (plain, weighted)]
    assert (by_channel[1] / by_channel[0]).tolist() == pytest.approx([3, 1, 0])


def test_model_steps_are_averaged_or_added_up() -> None:
    losses = torch.rand(3, 4, 2, published.CHANNELS)
    mean, total = (loss_of(over_steps=how).total(losses) for how in ("mean", "sum"))
    assert torch.allclose(mean, losses.mean())
    assert torch.allclose(total, 4 * losses.mean())


def test_the_state_is_the_scale_and_nothing_else() -> None:
    every_term = {"gradient": {"weight": 1.0}, "spectral": {"weight": 1.0}}
    assert loss_of(**every_term).state_dict() == {}
    assert loss_of(**every_term).scale.tolist() == [1, 1, 1]
    loss, resumed = (loss_of(**every_term, dynamic={}) for _ in range(2))
    loss.observe(torch.rand(1, 1, 2, 3), ALONE)
    state = loss.state_dict()
    assert [tensor.shape for tensor in state.values()] == [(3,)]
    resumed.load_state_dict(state)
    assert torch.equal(resumed.scale, loss.scale)
    assert not torch.equal(resumed.scale, torch.ones(3))


def test_a_loss_without_dynamic_weights_stays_as_it_is() -> None:
    loss = loss_of()
    loss.observe(torch.rand(1, 1, 2, 3), ALONE)
    assert loss.scale.tolist() == [1, 1, 1]


def test_the_scale_moves_between_forward_and_backward_pass() -> None:
    loss = loss_of(dynamic={})
    losses = torch.rand(1, 1, 2, 3, requires_grad=True)
    total = loss.total(losses)
    loss.observe(losses, ALONE)
    total.backward()
    assert losses.grad is not None
    assert torch.allclose(losses.grad, torch.full_like(losses, 1 / 6))
    assert not loss.scale.requires_grad
