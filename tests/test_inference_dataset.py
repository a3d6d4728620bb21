"""Rollouts stay inside their period, and get the states, forcing and truth of their times."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ocean_emulators.datasets.config import Period
from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.requirements import DataRequirements
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.errors import UserError
from tests.windows import NEEDS, TEST


@pytest.fixture(scope="module")
def packing(store: PackedStore, statistics: Statistics) -> Packing:
    return Packing.of(store, statistics)


def inference(store: PackedStore, packing: Packing, needs: DataRequirements, period: Period = TEST) -> InferenceDataset:
    return InferenceDataset(Rows(store, packing, store.indices(period, "test"), "none"), "test", needs)


@pytest.mark.parametrize("needs", NEEDS)
@settings(deadline=None, max_examples=30)
@given(steps=st.integers(1, 40), every=st.integers(1, 5))
def test_rollouts_stay_inside_their_period(
    store: PackedStore, packing: Packing, needs: DataRequirements, steps: int, every: int
) -> None:
    data = inference(store, packing, needs)
    calls = -(-steps // needs.output_states)

    def reads(start: int) -> list[int]:
        states = [start - i for i in range(needs.input_states)] + [start + i for i in range(1, steps + 1)]
        return states + [start + o for call in range(calls) for o in needs.forcing_offsets(call)]

    inside = [t for t in data.times if needs.past <= t - data.times.start and set(reads(t)) <= set(data.times)]
    starts = data.starts(steps, every)
    assert set(starts) <= set(inside)
    assert starts == list(range(starts[0], starts[-1] + 1, every)) if starts else True
    assert bool(starts) == (data.longest_rollout() >= steps)
    if needs.output_states == 1:
        assert data.starts(steps, 1) == inside


@pytest.mark.parametrize("needs", NEEDS)
def test_initial_forcing_and_truth_are_those_of_their_times(
    store: PackedStore, packing: Packing, needs: DataRequirements
) -> None:
    data = inference(store, packing, needs)
    starts = [data.starts(3, 1)[k] for k in (2, 5)]
    initial, forcing, truth = data.initial(starts), data.forcing(starts, 1), data.truth(starts, 3)
    assert forcing.shape[:3] == (2, len(needs.forcing_times), 3)
    for s, start in enumerate(starts):
        whole = packing.unpack(torch.cat(store.stored(start - needs.input_states + 1, start + 1)))
        assert torch.equal(initial[s], whole[:, packing.prognostic_channels])
        for f, offset in enumerate(needs.forcing_times):
            time = start + needs.output_states + offset
            expected = packing.unpack(torch.cat(store.stored(time, time + 1)))[0]
            assert torch.equal(forcing[s, f], expected[packing.forcing_channels])
        expected_truth = store.rows(start + 3, start + 4)[0, : packing.n_prognostic_cells]
        assert np.array_equal(truth[s].numpy(), expected_truth), "what is stored, to the last digit"


def test_a_period_too_short_is_refused(store: PackedStore, packing: Packing) -> None:
    with pytest.raises(UserError, match=r"data.periods.test: holds 2 times, too few for any rollout"):
        inference(store, packing, NEEDS[1], Period(start="2002-07-01", end="2002-07-10"))
