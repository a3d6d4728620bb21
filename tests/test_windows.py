"""Windows hold what a model needs, and stay inside their period."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ocean_emulators.datasets.config import Period
from ocean_emulators.datasets.store import PackedStore
from ocean_emulators.datasets.windows import DataRequirements, InferenceDataset, Rows, TrainData
from ocean_emulators.errors import UserError

CPU = torch.device("cpu")
NEEDS = [
    DataRequirements(1, 1, (0, 1)),
    DataRequirements(2, 2, (-1, 0)),
    DataRequirements(1, 1, ()),
    DataRequirements(2, 1, (-1, 0, 1)),
]


@pytest.mark.parametrize(
    ("needs", "past", "future_1", "future_3", "forcing_of_call_2"),
    [
        (NEEDS[0], 0, 1, 3, [2, 3]),
        (NEEDS[1], 1, 2, 6, [3, 4]),
        (NEEDS[2], 0, 1, 3, []),
        (NEEDS[3], 1, 1, 3, [1, 2, 3]),
    ],
)
def test_requirements(
    needs: DataRequirements, past: int, future_1: int, future_3: int, forcing_of_call_2: list[int]
) -> None:
    assert (needs.past, needs.future(1), needs.future(3)) == (past, future_1, future_3)
    assert needs.forcing_offsets(2) == forcing_of_call_2


def inference(store: PackedStore, needs: DataRequirements, period: Period) -> InferenceDataset:
    return InferenceDataset(Rows(store, store.indices(period, "test"), "none", CPU), period, "test", needs)


@pytest.mark.parametrize("needs", NEEDS)
@settings(deadline=None, max_examples=30)
@given(steps=st.integers(1, 40), every=st.integers(1, 5))
def test_rollouts_stay_inside_their_period(
    store: PackedStore, held_out: Period, needs: DataRequirements, steps: int, every: int
) -> None:
    data = inference(store, needs, held_out)
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


@pytest.fixture(scope="session")
def held_out() -> Period:
    return Period(start="2002-07-01", end="2002-12-31")


@pytest.mark.parametrize("needs", NEEDS)
def test_initial_forcing_and_truth_are_the_rows_of_their_times(
    store: PackedStore, held_out: Period, needs: DataRequirements
) -> None:
    data = inference(store, needs, held_out)
    start = data.starts(3, 1)[2]
    initial = data.initial([start])[0].numpy()
    assert np.array_equal(initial, store.rows(start - needs.input_states + 1, start + 1))
    forcing = data.forcing([start], 1)[0].numpy()
    times = [start + needs.output_states + offset for offset in needs.forcing_times]
    assert forcing.shape[0] == len(times)
    for row, time in zip(forcing, times, strict=True):
        assert np.array_equal(row, store.rows(time, time + 1)[0])
    assert np.array_equal(data.truth([start], 3)[0].numpy(), store.rows(start + 3, start + 4)[0])


@pytest.mark.parametrize("needs", NEEDS)
def test_windows_are_all_those_of_the_period_whatever_the_cache(
    store: PackedStore, held_out: Period, needs: DataRequirements
) -> None:
    times = store.indices(held_out, "test")
    caches = [
        TrainData(Rows(store, times, cache, CPU), held_out, "test", needs, 2) for cache in ("none", "host", "device")
    ]
    length = needs.past + 1 + needs.future(2)
    assert [len(data) for data in caches] == [len(times) - length + 1] * 3
    for index in (0, len(caches[0]) - 1):
        expected = store.rows(times.start + index, times.start + index + length)
        for data in caches:
            assert np.array_equal(data[index].numpy(), expected)
            assert np.array_equal(data.__getitems__([3, index])[1].numpy(), expected)


def test_a_period_too_short_is_refused(store: PackedStore) -> None:
    short = Period(start="2002-07-01", end="2002-07-12")
    times = store.indices(short, "train")
    with pytest.raises(
        UserError, match=rf"data.periods.train: .* holds {len(times)} times, but .* 3 call\(s\) needs 4"
    ):
        TrainData(Rows(store, times, "none", CPU), short, "train", NEEDS[0], 3)
    with pytest.raises(UserError, match="too short for any rollout"):
        inference(store, NEEDS[1], Period(start="2002-07-01", end="2002-07-10"))
