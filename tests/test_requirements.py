"""Which times a model reads and writes, and that they are those of the published system."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocean_emulators.datasets.requirements import DataRequirements

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


@given(history=st.integers(0, 4), n=st.integers(10, 400))
def test_rollouts_are_as_long_as_in_the_published_system(history: int, n: int) -> None:
    """ceil((N - 2h - 1) / (h + 1)) calls, each of which predicts h + 1 states."""
    calls = -(-(n - 2 * history - 1) // (history + 1))
    assert published(history).longest_rollout(n) == calls * (history + 1)
