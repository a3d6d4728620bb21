"""Windows hold what a model needs, at their times, and stay inside their period."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ocean_emulators.datasets.config import Period
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.loading.rows import Cache, Rows
from ocean_emulators.datasets.loading.train_data import Draw, TrainData, Windows
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.requirements import DataRequirements
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.encoding import Storage
from ocean_emulators.datasets.store.packed_store import PackedStore, open_store, store_path
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment
from tests.windows import NEEDS, TEST


@pytest.fixture(scope="module")
def packing(store: PackedStore, statistics: Statistics) -> Packing:
    return Packing.of(store, statistics)


def windows(
    store: PackedStore, packing: Packing, cache: Cache, needs: DataRequirements, strides: tuple[int, ...] = (1,)
) -> Windows:
    rows = Rows(store, packing, store.indices(TEST, "test"), cache)
    return Windows(rows, "test", needs, 2, strides)


@pytest.mark.parametrize("cache", ["none", "host", "device"])
@pytest.mark.parametrize("needs", NEEDS)
def test_windows_are_all_those_of_the_period_whatever_the_cache(
    store: PackedStore, packing: Packing, cache: Cache, needs: DataRequirements
) -> None:
    data, times = windows(store, packing, cache, needs), store.indices(TEST, "test")
    assert len(data) == len(times) - needs.length(2) + 1
    picked = [0, 3, len(data) - 1]
    batch = data.load(Draw("x1", picked))
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
    batch = data.load(Draw("x1", [2, n_first + 2]))
    for window, stride in enumerate((1, 3)):
        for k in range(length):
            time = times.start + 2 + k * stride
            expected = packing.unpack(torch.cat(store.stored(time, time + 1)))[0]
            assert torch.equal(batch.prognostic[window, k], expected[packing.prognostic_channels])


def test_a_buffer_holds_one_batch_after_another(store: PackedStore, packing: Packing) -> None:
    data = windows(store, packing, "host", NEEDS[0])
    buffer = data.buffer(4)
    data.load(Draw("x1", [7, 1, 5, 9]), buffer)
    batch = data.load(Draw("x1", [4, 2]), buffer)
    fresh = data.load(Draw("x1", [4, 2]))
    assert batch.prognostic.data_ptr() == buffer.data_ptr()
    assert torch.equal(batch.prognostic, fresh.prognostic)
    assert torch.equal(batch.forcing, fresh.forcing)


def test_a_batch_is_on_one_grid(store: PackedStore, packing: Packing) -> None:
    first, second = windows(store, packing, "host", NEEDS[0]), windows(store, packing, "none", NEEDS[0])
    data = TrainData({"x1": first, "x2": second})
    assert data.sizes == {"x1": len(first), "x2": len(second)}
    batch = data.load(Draw("x2", [3]), data.buffer(2))
    assert batch.grid == "x2"
    assert torch.equal(batch.prognostic, first.load(Draw("x1", [3])).prognostic)


def test_caching_reads_each_row_once_and_normalises_it(store: PackedStore, packing: Packing) -> None:
    times = store.indices(TEST, "test")
    held = Rows(store, packing, times, "host").held
    assert held is not None
    assert torch.equal(held, packing.normalise(torch.cat(store.stored(times.start, times.stop))))
    with pytest.raises(AssertionError, match="held normalised"):
        Rows(store, packing, times, "host").physical([times.start])


@pytest.mark.parametrize(
    ("cache", "storage"),
    [("none", "float32"), ("none", "float16"), ("none", "bfloat16"), ("host", "float16"), ("host", "bfloat16")],
)
def test_rows_as_they_are_stored_give_fields_and_physical_values(
    experiment: Experiment, statistics: Statistics, cache: Cache, storage: Storage, tmp_path: Path
) -> None:
    prepare(experiment.data.replace(storage=storage), tmp_path / "prepared")
    store = open_store(store_path(tmp_path / "prepared", "x1"))
    packing, times = Packing.of(store, statistics), store.indices(TEST, "test")
    rows = Rows(store, packing, times, cache)
    picked = [times.start + 3, times.start]
    expected = np.concatenate([store.rows(t, t + 1)[:, : packing.n_prognostic_cells] for t in picked])
    error = 0 if storage == "float32" else 1e-5
    assert np.allclose(rows.physical(picked).numpy(), expected, rtol=error, atol=error)
    expected_fields = packing.unpack(torch.cat([piece for t in picked for piece in store.stored(t, t + 1)]))
    assert torch.equal(rows.fields(picked), expected_fields)


def test_a_period_too_short_is_refused(store: PackedStore, packing: Packing) -> None:
    times = store.indices(Period(start="2002-07-01", end="2002-07-12"), "train")
    with pytest.raises(
        UserError, match=rf"data.periods.train: holds {len(times)} times, but .* 3 model step.* needs 4"
    ):
        Windows(Rows(store, packing, times, "none"), "train", NEEDS[0], 3)


@pytest.mark.parametrize("cache", ["none", "host", "device"])
@settings(deadline=None, max_examples=100)
@given(first=st.integers(-60, 60), length=st.integers(1, 6), stride=st.integers(1, 4))
def test_rows_are_of_the_times_asked_for_or_of_none(
    store: PackedStore, packing: Packing, cache: Cache, first: int, length: int, stride: int
) -> None:
    """Before the first time that rows are of, an index that counts from the end would give others."""
    rows = Rows(store, packing, store.indices(TEST, "test"), cache)
    asked = range(rows.times.start + first, rows.times.start + first + length * stride, stride)
    if set(asked) <= set(rows.times):
        expected = torch.cat([piece for time in asked for piece in store.stored(time, time + 1)])
        found = torch.cat(rows.window(asked[0], length, stride))
        assert torch.equal(found, packing.normalise(expected) if rows.normalised else expected)
    else:
        with pytest.raises(AssertionError, match="rows are held of"):
            rows.window(asked[0], length, stride)
