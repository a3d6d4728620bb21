"""Prefetching changes when batches are made, not what they are."""

import pytest
import torch

from ocean_emulators.datasets.loading.loader import Loader
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.loading.samplers import BatchSampler
from ocean_emulators.datasets.loading.train_data import Draw, TrainData, Windows
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.errors import UserError
from tests.windows import NEEDS, TEST


@pytest.fixture
def data(store: PackedStore, statistics: Statistics) -> TrainData:
    rows = Rows(store, Packing.of(store, statistics), store.indices(TEST, "test"), "none")
    return TrainData({f"x{calls}": Windows(rows, "test", NEEDS[0], calls) for calls in (1, 2)})


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_batches_come_in_their_order_and_whole(data: TrainData, prefetch: int) -> None:
    sampler = BatchSampler(data.sizes, 4, seed=0)
    loader = Loader(data, sampler, prefetch)
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        expected = [data.load(draw) for draw in sampler]
        for batch, wanted in zip(loader, expected, strict=True):
            assert batch.grid == wanted.grid
            assert torch.equal(batch.prognostic, wanted.prognostic)
            assert torch.equal(batch.forcing, wanted.forcing)


def test_it_begins_at_the_place_in_the_epoch_that_it_is_given(data: TrainData) -> None:
    sampler = BatchSampler(data.sizes, 4, seed=0)
    loader = Loader(data, sampler, prefetch=3)
    sampler.set_epoch(2)
    whole = [batch.prognostic.clone() for batch in loader]
    started = iter(loader)
    next(started)
    started.close()  # type: ignore[attr-defined]
    sampler.set_epoch(2, 5)
    rest = [batch.prognostic.clone() for batch in loader]
    assert len(rest) == len(whole) - 5
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[5:], strict=True))


def test_what_goes_wrong_in_a_thread_is_raised_here(data: TrainData) -> None:
    class Broken(BatchSampler):
        def batches(self, epoch: int) -> list[Draw]:
            return [Draw("x1", [0]), Draw("x1", [10**6])]

    loader = Loader(data, Broken(data.sizes, 4, seed=0))
    with pytest.raises((IndexError, UserError)):
        list(loader)
