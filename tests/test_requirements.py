"""Which times a model reads and writes, and that they are those of the published system."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocean_emulators.datasets.requirements import DataRequirements
from ocean_emulators.errors import UserError
from tests.windows import NEEDS


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


def published(history: int) -> DataRequirements:
    """The published system gives `history` + 1 states, predicts as many, and gives the forcing of the given states."""
    return DataRequirements(history + 1, history + 1, tuple(range(-history, 1)))


@given(history=st.integers(0, 4), calls=st.integers(1, 5), stride=st.integers(1, 4), n=st.integers(1, 200))
def test_windows_are_those_of_the_published_system(history: int, calls: int, stride: int, n: int) -> None:
    """N - K(h + 1)d - hd windows; call s reads h + 1 times from s(h + 1)d on and is scored on the h + 1 that follow."""
    needs = published(history)
    assert n - ((needs.length(calls) - 1) * stride + 1) + 1 == n - calls * (history + 1) * stride - history * stride
    for call in range(calls):
        first = call * (history + 1) * stride
        read = [(needs.past + offset) * stride for offset in needs.forcing_offsets(call)]
        assert read == [first + stride * k for k in range(history + 1)]
        labels = [(needs.past + 1 + call * needs.output_states + k) * stride for k in range(needs.output_states)]
        assert labels == [first + stride * k for k in range(history + 1, 2 * history + 2)]


PERIODS = st.builds(lambda first, n: range(first, first + n), st.integers(0, 50), st.integers(1, 60))


@pytest.mark.parametrize("needs", NEEDS)
@given(times=PERIODS, calls=st.integers(1, 5), strides=st.lists(st.integers(1, 4), min_size=1, unique=True))
def test_windows_are_all_that_lie_within_the_period(
    needs: DataRequirements, times: range, calls: int, strides: list[int]
) -> None:
    def reads(first: int, stride: int) -> set[int]:
        return {first + stride * k for k in range(needs.length(calls))}

    inside = [[(t, stride) for t in times if reads(t, stride) <= set(times)] for stride in strides]
    if all(inside):
        assert needs.window_starts(times, "train", calls, strides) == [window for part in inside for window in part]
    else:
        with pytest.raises(UserError, match=rf"data.periods.train: holds {len(times)} times, .* {calls} model step"):
            needs.window_starts(times, "train", calls, strides)


@pytest.mark.parametrize("needs", NEEDS)
@given(times=PERIODS, steps=st.integers(1, 20), every=st.integers(1, 5))
def test_forecasts_start_where_all_that_they_read_lies_within_the_period(
    needs: DataRequirements, times: range, steps: int, every: int
) -> None:
    reach = needs.past, needs.reach(steps)
    inside = [t for t in times if t - reach[0] in times and t + reach[1] in times]
    assert list(needs.forecast_starts(times, steps, every)) == inside[::every]
    assert bool(inside) == (needs.longest_rollout(len(times)) >= steps)


@given(history=st.integers(0, 4), n=st.integers(10, 400))
def test_rollouts_are_as_long_as_in_the_published_system(history: int, n: int) -> None:
    """ceil((N - 2h - 1) / (h + 1)) calls, each of which predicts h + 1 states."""
    calls = -(-(n - 2 * history - 1) // (history + 1))
    assert published(history).longest_rollout(n) == calls * (history + 1)
