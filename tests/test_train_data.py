"""Windows hold what a model needs, at their times, and stay inside their period."""

import numpy as np
import pytest
import torch

from ocean_emulators.datasets.config import Period
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.loading.rows import Cache, Rows
from ocean_emulators.datasets.loading.train_data import Draw, TrainData, Windows
from ocean_emulators.datasets.requirements import DataRequirements
from ocean_emulators.datasets.statistics.normalisation import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.errors import UserError
from tests.test_requirements import NEEDS

TEST = Period(start="2002-07-01", end="2002-12-31")


@pytest.fixture
def packing(store: PackedStore, statistics: Statistics) -> Packing:
    return Packing.of(store, statistics)


def windows(
    store: PackedStore, packing: Packing, cache: Cache, needs: DataRequirements, strides: tuple[int, ...] = (1,)
) -> Windows:
    rows = Rows(store, packing, store.indices(TEST, "test"), cache)
    return Windows(rows, TEST, "test", needs, 2, strides)


@pytest.mark.parametrize("cache", ["none", "host", "device"])
@pytest.mark.parametrize("needs", NEEDS)
def test_windows_are_all_those_of_the_period_whatever_the_cache(
    store: PackedStore, packing: Packing, cache: Cache, needs: DataRequirements
) -> None:
    data, times = windows(store, packing, cache, needs), store.indices(TEST, "test")
    assert len(data) == len(times) - needs.length(2) + 1
    picked = [0, 3, len(data) - 1]
    batch = data.load(picked)
    for window, index in enumerate(picked):
        first = times.start + index
        expected = packing.unpack(torch.cat(store.stored(first, first + needs.length(2))))
        assert torch.equal(batch.prognostic[window], expected[:, packing.prognostic_channels])
        assert torch.equal(batch.forcing[window], expected[:, packing.forcing_channels])


@pytest.mark.parametrize("cache", ["none", "host"])
def test_strides_keep_their_distance(store: PackedStore, packing: Packing, cache: Cache) -> None:
    data = windows(store, packing, cache, NEEDS[0], strides=(1, 3))
    times, length = store.indices(TEST, "test"), NEEDS[0].length(2)
    n_first = len(times) - length + 1
    assert len(data) == n_first + len(times) - 3 * (length - 1)
    batch = data.load([2, n_first + 2])
    for window, stride in enumerate((1, 3)):
        for k in range(length):
            time = times.start + 2 + k * stride
            expected = packing.unpack(torch.cat(store.stored(time, time + 1)))[0]
            assert torch.equal(batch.prognostic[window, k], expected[packing.prognostic_channels])


def test_a_buffer_holds_one_batch_after_another(store: PackedStore, packing: Packing) -> None:
    data = windows(store, packing, "host", NEEDS[0])
    buffer = data.buffer(4)
    data.load([7, 1, 5, 9], buffer)
    batch = data.load([4, 2], buffer)
    fresh = data.load([4, 2])
    assert batch.prognostic.data_ptr() == buffer.data_ptr()
    assert torch.equal(batch.prognostic, fresh.prognostic)
    assert torch.equal(batch.forcing, fresh.forcing)


def test_a_batch_is_on_one_grid(store: PackedStore, packing: Packing) -> None:
    first, second = windows(store, packing, "host", NEEDS[0]), windows(store, packing, "none", NEEDS[0])
    data = TrainData({"x1": first, "x2": second})
    assert data.sizes == {"x1": len(first), "x2": len(second)}
    batch = data.load(Draw("x2", [3]), data.buffer(2))
    assert batch.grid == "x2"
    assert torch.equal(batch.prognostic, first.load([3]).prognostic)


def test_caching_reads_each_row_once_and_normalises_it(store: PackedStore, packing: Packing) -> None:
    times = store.indices(TEST, "test")
    held = Rows(store, packing, times, "host").held
    assert held is not None
    assert torch.equal(held, packing.normalise(torch.cat(store.stored(times.start, times.stop))))
    physical = Rows(store, packing, times, "host").physical([times.start + 3])
    expected = store.rows(times.start + 3, times.start + 4)[:, : packing.n_prognostic_cells]
    assert np.allclose(physical.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_a_period_too_short_is_refused(store: PackedStore, packing: Packing) -> None:
    short = Period(start="2002-07-01", end="2002-07-12")
    times = store.indices(short, "train")
    rows = Rows(store, packing, times, "none")
    with pytest.raises(
        UserError, match=rf"data.periods.train: .* holds {len(times)} times, but .* 3 call\(s\) needs 4"
    ):
        Windows(rows, short, "train", NEEDS[0], 3)
