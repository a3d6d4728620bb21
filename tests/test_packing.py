"""Packed rows and stacked channels are two ways of saying the same."""

import dataclasses

import numpy as np
import pytest
import torch

from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.encoding import Scaling, Storage
from ocean_emulators.datasets.store.packed_store import PackedStore
from tests import tiny


@pytest.fixture
def packing(store: PackedStore, statistics: Statistics) -> Packing:
    return Packing.of(store, statistics)


@pytest.fixture
def rows(store: PackedStore) -> torch.Tensor:
    return torch.cat(store.stored(0, 6))


def test_channels_are_the_normalised_fields_of_the_source_and_land_is_zero(
    packing: Packing, rows: torch.Tensor, statistics: Statistics
) -> None:
    dataset = tiny.dataset()
    dense = packing.unpack(rows)
    for c, name in enumerate(statistics.names):
        expected = np.nan_to_num((dataset[name].values[:6] - statistics.mean[c]) / statistics.std[c])
        assert np.allclose(dense[:, c], expected, atol=1e-4)
    assert (dense[:, ~packing.mask] == 0).all()


def test_packing_undoes_unpacking(packing: Packing, rows: torch.Tensor) -> None:
    states = packing.unpack(rows, channels=packing.prognostic_channels)
    assert torch.allclose(packing.pack(states), rows[:, : packing.n_prognostic_cells], rtol=1e-5, atol=1e-5)


def test_unpacking_undoes_packing(packing: Packing, rows: torch.Tensor) -> None:
    torch.manual_seed(0)
    states = torch.randn(6, *packing.prognostic_mask.shape) * packing.prognostic_mask
    packed = torch.cat([packing.pack(states), rows[:, packing.n_prognostic_cells :]], dim=-1)
    assert torch.allclose(packing.unpack(packed)[:, packing.prognostic_channels], states, atol=1e-4)


def test_a_part_of_the_channels_is_that_part_of_all(packing: Packing, rows: torch.Tensor) -> None:
    whole = packing.unpack(rows)
    for part in (packing.prognostic_channels, packing.forcing_channels, slice(3, 5), slice(2, 2)):
        assert torch.equal(packing.unpack(rows, channels=part), whole[:, part])


def test_rows_may_be_normalised_before(packing: Packing, rows: torch.Tensor) -> None:
    assert torch.equal(packing.unpack(packing.normalise(rows), normalised=True), packing.unpack(rows))
    assert torch.allclose(packing.physical(packing.normalise(rows)), rows, rtol=1e-5, atol=1e-5)


def test_memory_is_used_again(packing: Packing, rows: torch.Tensor) -> None:
    out = torch.zeros(6, *packing.mask.shape)
    packing.unpack(rows.flip(0), out=out)
    assert packing.unpack(rows, out=out) is out
    assert torch.equal(out, packing.unpack(rows))


def test_a_gather_as_on_gpus_gives_the_same(packing: Packing, rows: torch.Tensor) -> None:
    for channels in (slice(None), packing.forcing_channels):
        gathered = torch.empty(6, *packing.mask[channels].shape)
        packing._gather(rows, False, channels, gathered)
        assert torch.equal(gathered, packing.unpack(rows, channels=channels))


@pytest.mark.parametrize("circles_at_once", [1, 5, 1000])
def test_threads_share_the_circles_of_latitude(
    circles_at_once: int, packing: Packing, rows: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, pieces = packing.unpack(rows), [rows[:1], rows[1:4], rows[4:]]
    monkeypatch.setattr(
        "ocean_emulators.datasets.loading.packing._CELLS_AT_ONCE", circles_at_once * packing.mask.shape[-1]
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for channels in (slice(None), packing.forcing_channels):
        assert torch.equal(packing.unpack(pieces, channels=channels), whole[:, channels])
    assert torch.equal(packing.unpack(packing.normalise(rows), normalised=True), whole)


@pytest.mark.parametrize(("storage", "error"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_half_the_size_costs_as_much_precision_as_its_numbers_have(
    storage: Storage, error: float, store: PackedStore, statistics: Statistics
) -> None:
    rows, counts = store.rows(0, 20), store.cells_per_channel
    scaling = Scaling.of(storage, rows, counts)
    stored = scaling.as_stored(scaling.encode(rows, counts))
    assert stored.element_size() == 2
    scale, offset = np.repeat(scaling.scale, counts), np.repeat(scaling.offset, counts)
    bound = error * np.abs(rows - offset) / scale + 1e-5
    assert (np.abs(scaling.decode(stored, counts) - rows) / scale <= bound).all()
    half = Packing.of(dataclasses.replace(store, scaling=scaling), statistics)
    exact = Packing.of(store, statistics)
    assert torch.allclose(half.unpack(stored), exact.unpack(torch.from_numpy(rows)), rtol=2 * error, atol=4 * error)


def test_fields_are_the_source_with_nan_on_land(packing: Packing, rows: torch.Tensor) -> None:
    fields = packing.to_fields(rows[:, : packing.n_prognostic_cells].numpy())
    dataset = tiny.dataset()
    assert list(fields) == [c.name for c in packing.prognostic]
    for name, values in fields.items():
        assert np.array_equal(values, dataset[name].values[:6], equal_nan=True)


def test_nothing_of_it_stands_in_checkpoints(packing: Packing) -> None:
    assert not packing.state_dict()
