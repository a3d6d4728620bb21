"""Coarsening keeps what there is of everything, whatever the masks, areas and factors."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ocean_emulators.datasets.preparation.coarsening import (
    Resolution,
    block_sum,
    coarsen_field,
    coarsen_resolution,
    require_fractions,
)
from ocean_emulators.errors import UserError
from ocean_emulators.ocean.grid import Grid, cell_area

ROUND_OFF = 1e-13


@st.composite
def oceans(draw: st.DrawFn, factors: st.SearchStrategy[int]) -> tuple[Resolution, np.ndarray, int]:
    """A resolution of two levels with any masks, areas and, perhaps, fractions; a field [lev, lat, lon] on it; a factor."""
    factor = draw(factors)
    shape = tuple(factor * draw(st.integers(1, 4)) for _ in range(2))
    floats = st.floats(1e-3, 1.0)
    wet = draw(arrays.arrays(bool, (2, *shape)))
    area = 1e10 * draw(arrays.arrays(float, shape, elements=floats))
    fraction = wet * draw(arrays.arrays(float, wet.shape, elements=floats)) if draw(st.booleans()) else None
    values = draw(arrays.arrays(float, wet.shape, elements=st.floats(-1e3, 1e3)))
    lat, lon = (np.arange(n, dtype=float) for n in shape)
    grid = Grid(lat, lon, area, np.array([5.0, 15.0]), np.array([10.0, 10.0]), fraction)
    return Resolution(1, grid, wet), np.where(wet, values, np.nan), factor


def wet_area(resolution: Resolution, level: int) -> np.ndarray:
    return resolution.grid.wet_area(level) * resolution.wet[level]


def integral(values: np.ndarray, weight: np.ndarray) -> float:
    return float((np.where(weight > 0, values, 0) * weight).sum())


@given(oceans(st.integers(1, 4)))
def test_integrals_over_wet_area_are_kept(case: tuple[Resolution, np.ndarray, int]) -> None:
    fine, values, factor = case
    coarse = coarsen_resolution(fine, factor)
    assert coarse.grid.area.sum() == pytest.approx(fine.grid.area.sum(), rel=ROUND_OFF)
    for level in range(2):
        before, after = wet_area(fine, level), wet_area(coarse, level)
        assert np.array_equal(after > 0, coarse.wet[level])
        assert after.sum() == pytest.approx(before.sum(), rel=ROUND_OFF)
        means = coarsen_field(values[level], before, factor)
        scale = integral(abs(values[level]), before)
        assert integral(means, after) == pytest.approx(integral(values[level], before), abs=ROUND_OFF * scale)


@given(oceans(st.just(4)))
def test_twice_by_two_is_once_by_four(case: tuple[Resolution, np.ndarray, int]) -> None:
    fine, values, _ = case
    half = coarsen_resolution(fine, 2)
    twice, once = coarsen_resolution(half, 2), coarsen_resolution(fine, 4)
    assert twice.factor == once.factor == 4
    assert np.array_equal(twice.wet, once.wet)
    for name in ("lat", "lon", "area", "ocean_fraction"):
        assert np.allclose(getattr(twice.grid, name), getattr(once.grid, name), rtol=1e-12)
    for level in range(2):
        halved = coarsen_field(values[level], wet_area(fine, level), 2)
        by_two = coarsen_field(halved, wet_area(half, level), 2)
        by_four = coarsen_field(values[level], wet_area(fine, level), 4)
        assert np.allclose(by_two, by_four, rtol=1e-12, atol=1e-10)


@given(oceans(st.integers(1, 4)))
def test_means_stay_between_what_they_are_of(case: tuple[Resolution, np.ndarray, int]) -> None:
    fine, values, factor = case
    means = coarsen_field(values[0], wet_area(fine, 0), factor)
    wet = block_sum(fine.wet[0].astype(int), factor) > 0
    if wet.any():
        assert np.nanmin(values[0]) - 1e-9 <= means[wet].min()
        assert means[wet].max() <= np.nanmax(values[0]) + 1e-9
    assert (means[~wet] == 0).all()


def test_one_wet_cell_of_four_makes_a_wet_cell_of_a_quarter() -> None:
    grid = Grid(np.arange(2.0), np.arange(2.0), np.full((2, 2), 3.0), np.array([5.0]), np.array([10.0]))
    wet = np.array([[[True, False], [False, False]]])
    coarse = coarsen_resolution(Resolution(1, grid, wet), 2)
    assert coarse.wet.tolist() == [[[True]]]
    assert coarse.grid.wet_area(0).tolist() == [[3.0]]
    assert coarsen_field(np.array([[7.0, np.nan], [0.0, np.nan]]), wet_area(Resolution(1, grid, wet), 0), 2) == 7


def fine(**changes: Any) -> Resolution:
    lat, lon = np.array([-45.0, -15.0, 15.0, 45.0]), np.arange(45.0, 360, 90)
    grid = {"lat": lat, "lon": lon, "area": cell_area(lat, lon), "lev": np.array([5.0]), "thickness": np.array([10.0])}
    return Resolution(1, Grid(**{**grid, **changes}), np.ones((1, 4, 4), bool))


def test_a_factor_of_one_changes_nothing() -> None:
    assert coarsen_resolution(fine(), 1).grid.ocean_fraction is None


def test_a_factor_must_divide_the_grid() -> None:
    with pytest.raises(UserError, match=r"data.coarsen: 3 does not divide the grid of the source, \(4, 4\)"):
        coarsen_resolution(fine(), 3)


def test_fractions_that_contradict_masks_are_refused() -> None:
    fraction = np.ones((1, 4, 4))
    require_fractions(fine(ocean_fraction=fraction))
    fraction[0, 2, 1] = 0
    with pytest.raises(UserError, match=r"ocean_fraction is 0 in 1 cell\(s\) .* level 0 at index \(2, 1\); mend it"):
        require_fractions(fine(ocean_fraction=fraction))
