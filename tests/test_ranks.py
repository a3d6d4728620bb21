"""Several ranks: each runs, they hear of each other, and one that fails says so."""

import pytest
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from ocean_emulators.distributed import Ranks
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
