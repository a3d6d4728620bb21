"""Several ranks: each runs, they hear of each other, and one that fails says so."""

import pytest
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from ocean_emulators.distributed import Ranks
from ocean_emulators.models.layers.blocks import BatchNorm
from tests.ranks import run_ranks


def speak(ranks: Ranks, base: float) -> tuple[int, float, list[str]]:
    total = ranks.sum(torch.tensor([base + ranks.rank])).item()
    return ranks.rank, total, ranks.gather(f"of {ranks.rank}")


def fail(ranks: Ranks) -> None:
    if ranks.rank == 1:
        raise KeyError("this rank is broken")


def test_each_returns_what_it_found() -> None:
    assert run_ranks(speak, 2, 10.0) == [(rank, 21.0, ["of 0", "of 1"]) for rank in range(2)]


def test_the_failure_of_one_is_told() -> None:
    with pytest.raises(ProcessRaisedException, match="this rank is broken"):
        run_ranks(fail, 2)


def normalise(ranks: Ranks, windows: list[int]) -> dict[str, torch.Tensor]:
    """Two steps of batch normalisation of this rank's share of five windows, whose mean is large, and their gradients."""
    first = sum(windows[: ranks.rank])
    mine = slice(first, first + windows[ranks.rank])
    torch.manual_seed(0)
    norm = BatchNorm(3)
    norm.weight.data, norm.bias.data = torch.rand(3) + 0.5, torch.randn(3)
    norm.ranks = ranks
    x, weights = torch.randn(5, 3, 4, 6) * 0.1 + 7, torch.randn(5, 3, 4, 6)
    x = x[mine].requires_grad_()
    for _ in range(2):
        out = norm(x)
        (out.square() * weights[mine]).sum().backward()
    assert x.grad is not None and norm.weight.grad is not None and norm.bias.grad is not None
    return {
        "out": out.detach(),
        "x": x.grad,
        "weight": ranks.sum(norm.weight.grad),
        "bias": ranks.sum(norm.bias.grad),
        "mean": norm.running_mean,
        "variance": norm.running_var,
    }


@pytest.mark.parametrize("windows", [[3, 2], [5, 0], [1, 0, 4]])
def test_batches_are_normalised_over_all_ranks(windows: list[int]) -> None:
    """As by one rank that has all windows; also where a rank has none."""
    alone, together = normalise(Ranks(), [5]), run_ranks(normalise, len(windows), windows)
    for name in ("out", "x"):
        found = torch.cat([rank[name] for rank in together])
        assert (found - alone[name]).norm() < 2e-5 * alone[name].norm()
    for rank in together:
        for name in ("weight", "bias", "mean", "variance"):
            torch.testing.assert_close(rank[name], alone[name], rtol=1e-4, atol=1e-5)
            assert torch.equal(rank[name], together[0][name])
