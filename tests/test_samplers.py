"""Every window once an epoch, in an order of seed and epoch alone, on one grid a step, on any number of ranks."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocean_emulators.datasets.loading.samplers import BatchSampler, SequentialBatches
from ocean_emulators.distributed import Ranks
from ocean_emulators.errors import UserError

SIZES = st.dictionaries(st.sampled_from(["x1", "x2", "x3"]), st.integers(3, 60), min_size=1)


def samplers(sizes: dict[str, int], batch_size: int, world_size: int, seed: int = 3) -> list[BatchSampler]:
    return [BatchSampler(sizes, batch_size, seed, ranks=Ranks(r, world_size)) for r in range(world_size)]


@given(sizes=SIZES, batch_size=st.integers(3, 20), world_size=st.integers(1, 3), epoch=st.integers(0, 5))
def test_each_window_exactly_once_an_epoch(sizes: dict[str, int], batch_size: int, world_size: int, epoch: int) -> None:
    ranks = samplers(sizes, batch_size, world_size)
    shown: Counter[tuple[str, int]] = Counter()
    per_rank = []
    for sampler in ranks:
        sampler.set_epoch(epoch)
        draws = list(sampler)
        assert len(draws) == len(sampler)
        per_rank.append(draws)
        for draw in draws:
            assert 1 <= len(draw.indices) <= sampler.largest
            shown.update((draw.grid, index) for index in draw.indices)
    assert shown == Counter({(grid, i): 1 for grid, size in sizes.items() for i in range(size)})
    for step in zip(*per_rank, strict=True):
        assert len({draw.grid for draw in step}) == 1, "all ranks have the same grid at the same step"
        assert max(len(draw.indices) for draw in step) - min(len(draw.indices) for draw in step) <= 1


@given(sizes=SIZES, batch_size=st.integers(3, 20), world_size=st.integers(1, 3))
def test_ranks_share_the_batches_of_one(sizes: dict[str, int], batch_size: int, world_size: int) -> None:
    (alone,) = samplers(sizes, batch_size, 1)
    whole = alone.batches(0)
    for draws, batch in zip(zip(*samplers(sizes, batch_size, world_size), strict=True), whole, strict=False):
        joined = [index for draw in draws for index in draw.indices]
        # With more ranks, batches may only be larger where one would have left a rank without windows.
        if len(alone) == len(samplers(sizes, batch_size, world_size)[0]):
            assert joined == batch.indices


@given(sizes=SIZES, seed=st.integers(0, 5), epoch=st.integers(0, 5), position=st.integers(0, 10))
def test_the_order_is_of_seed_and_epoch_and_can_be_taken_up_anywhere(
    sizes: dict[str, int], seed: int, epoch: int, position: int
) -> None:
    first, second = BatchSampler(sizes, 4, seed), BatchSampler(sizes, 4, seed)
    first.set_epoch(epoch)
    whole = list(first)
    assert whole == list(first)
    second.set_epoch(epoch, position)
    assert list(second) == whole[position:]


def test_epochs_and_seeds_differ() -> None:
    sampler = BatchSampler({"x1": 50}, 5, seed=3)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(BatchSampler({"x1": 50}, 5, seed=4)) != first


def test_batches_are_even() -> None:
    lengths = [len(draw.indices) for draw in BatchSampler({"x1": 23}, 5, seed=0)]
    assert sorted(lengths) == [4, 4, 5, 5, 5]


def test_grids_are_mixed_over_the_epoch() -> None:
    order = [draw.grid for draw in BatchSampler({"x1": 40, "x2": 40}, 4, seed=0)]
    assert order.count("x1") == order.count("x2") == 10
    assert order != sorted(order)


@given(passes=st.floats(0, 3))
def test_a_grid_may_be_shown_more_or_less_often(passes: float) -> None:
    sampler = BatchSampler({"x1": 10, "x2": 20}, 4, seed=0, passes={"x1": 1.0, "x2": passes})
    shown = Counter(i for draw in sampler if draw.grid == "x2" for i in draw.indices)
    assert shown.total() == round(20 * passes)
    if shown:
        assert max(shown.values()) - min(shown.get(i, 0) for i in range(20)) <= 1


def test_what_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(UserError, match=r"train.batch_size: 1 windows can't be shared by 2 processes"):
        BatchSampler({"x1": 10}, 1, seed=0, ranks=Ranks(0, 2))
    with pytest.raises(UserError, match="the data have 1 windows on grid x2, fewer than 2 processes"):
        BatchSampler({"x1": 10, "x2": 1}, 4, seed=0, ranks=Ranks(0, 2))


def test_validation_sees_all_in_order() -> None:
    batches = SequentialBatches({"x1": 7, "x2": 2}, 3)
    seen = [(draw.grid, list(draw.indices)) for draw in batches]
    assert seen == [("x1", [0, 1, 2]), ("x1", [3, 4, 5]), ("x1", [6]), ("x2", [0, 1])]
    assert (len(batches), batches.largest) == (4, 3)
    (draw,) = SequentialBatches({"x1": 2}, 9)
    assert (draw.grid, list(draw.indices)) == ("x1", [0, 1])


@pytest.mark.parametrize("seed", [20261125175000, 2**63 - 1])
def test_any_seed_works(seed: int) -> None:
    orders = [
        [draw.indices for draw in BatchSampler({"x1": 50}, 5, s).batches(epoch)]
        for s in (seed, seed - 1)
        for epoch in (0, 1)
    ]
    assert orders[0] == [draw.indices for draw in BatchSampler({"x1": 50}, 5, seed).batches(0)]
    assert all(a != b for a, b in itertools.combinations(orders, 2))
