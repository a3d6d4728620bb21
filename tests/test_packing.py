"""Packed rows and stacked channels are two ways of saying the same."""

import numpy as np
import pytest
import torch

from ocean_emulators.datasets.packing import Packing
from ocean_emulators.datasets.statistics import Statistics
from ocean_emulators.datasets.store import PackedStore
from tests import tiny


@pytest.fixture
def packing(store: PackedStore, statistics: Statistics) -> Packing:
    return Packing(store.prognostic, store.forcing, store.mask, statistics)


@pytest.fixture
def rows(store: PackedStore) -> torch.Tensor:
    return torch.from_numpy(store.rows(0, 6))


def test_channels_are_the_normalised_fields_of_the_source_and_land_is_zero(
    packing: Packing, rows: torch.Tensor, statistics: Statistics
) -> None:
    dataset = tiny.dataset()
    dense = torch.cat(packing.unpack(rows), dim=1)
    for c, name in enumerate(statistics.names):
        expected = np.nan_to_num((dataset[name].values[:6] - statistics.mean[c]) / statistics.std[c])
        assert np.allclose(dense[:, c], expected, atol=1e-4)
    assert (dense[:, ~packing.mask] == 0).all()


def test_packing_undoes_unpacking(packing: Packing, rows: torch.Tensor) -> None:
    states, _ = packing.unpack(rows)
    assert torch.allclose(packing.pack(states), rows[:, : packing.n_prognostic_cells], rtol=1e-5, atol=1e-5)


def test_unpacking_undoes_packing(packing: Packing, rows: torch.Tensor) -> None:
    torch.manual_seed(0)
    states = torch.randn(2, 3, *packing.prognostic_mask.shape) * packing.prognostic_mask
    packed = torch.cat([packing.pack(states), rows[:, packing.n_prognostic_cells :].reshape(2, 3, -1)], dim=-1)
    assert torch.allclose(packing.unpack(packed)[0], states, atol=1e-4)


def test_forcing_alone_is_the_forcing_of_all(packing: Packing, rows: torch.Tensor) -> None:
    rows = rows.reshape(2, 3, -1)
    assert torch.equal(packing.unpack_forcing(rows), packing.unpack(rows)[1])


def test_fields_are_the_source_with_nan_on_land(packing: Packing, rows: torch.Tensor) -> None:
    fields = packing.to_fields(rows[:, : packing.n_prognostic_cells].numpy())
    dataset = tiny.dataset()
    assert list(fields) == [c.name for c in packing.prognostic]
    for name, values in fields.items():
        assert np.array_equal(values, dataset[name].values[:6], equal_nan=True)


def test_nothing_of_it_stands_in_checkpoints(packing: Packing) -> None:
    assert not packing.state_dict()
