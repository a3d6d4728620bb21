"""Comparisons are paired, and their intervals resample blocks of starts."""

import numpy as np
import pytest
import xarray as xr

from ocean_emulators.eval.comparison import block_draws, compare
from ocean_emulators.eval.config import ComparisonConfig
from ocean_emulators.eval.report import ratio_lines

CONFIG = ComparisonConfig(bootstrap_draws=200)
STD = xr.DataArray([2.0, 1.0], dims="channel", coords={"channel": ["so_0", "zos"]})


def sums(squared: np.ndarray) -> xr.Dataset:
    """Mean squared errors [start, channel] of one lead."""
    weight = np.array([[10.0, 20.0]])
    return xr.Dataset(
        {
            "squared_error": (("start", "lead", "region", "channel"), (squared * weight)[:, None, None, :]),
            "weight": (("region", "channel"), weight),
        },
        coords={"lead": [5.0], "region": ["global"], "channel": STD["channel"], "start": np.arange(len(squared))},
    )


def test_an_emulator_beside_itself_is_at_one() -> None:
    both = {"emulator": sums(np.random.default_rng(0).uniform(1, 9, (12, 2)))}
    table = compare({**both, "copy": both["emulator"]}, STD, CONFIG, 15)
    assert set(table["forecast"]) == {"emulator", "copy"}
    assert np.allclose(table[["emulator_ratio", "ratio_low", "ratio_high"]], 1)


def test_ratios_by_hand() -> None:
    """Mean squares 4 and 1 of the emulator, over variances 4 and 1; of the other 16 and 4."""
    table = compare(
        {"emulator": sums(np.array([[2.0, 1.0], [6.0, 1.0]])), "other": sums(np.array([[16.0, 2.0], [16.0, 6.0]]))},
        STD,
        CONFIG,
        15,
    ).set_index(["forecast", "variable"])
    assert table.loc[("emulator", "so"), "nrmse"] == pytest.approx(1)
    assert table.loc[("other", "so"), "nrmse"] == pytest.approx(2)
    assert table.loc[("other", "all"), "nrmse"] == pytest.approx(2)
    assert table.loc[("other", "zos"), "emulator_ratio"] == pytest.approx(0.5)


def test_a_constant_ratio_has_no_spread_because_draws_are_paired() -> None:
    squared = np.random.default_rng(0).uniform(1, 9, (12, 2))
    table = compare({"emulator": sums(squared), "other": sums(4 * squared)}, STD, CONFIG, 15)
    other = table[table["forecast"] == "other"]
    assert np.allclose(other[["emulator_ratio", "ratio_low", "ratio_high"]], 0.5)


def test_the_interval_is_the_quantiles_over_draws() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(1, 9, (12, 2)), rng.uniform(1, 9, (12, 2))
    table = compare({"emulator": sums(a), "other": sums(b)}, STD, CONFIG, 15).set_index(["forecast", "variable"])
    draws = block_draws(12, 2, CONFIG)
    ratios = [np.sqrt(a[draw, 1].mean() / b[draw, 1].mean()) for draw in draws]
    expected = np.quantile(ratios, [0.025, 0.975])
    assert table.loc[("other", "zos"), ["ratio_low", "ratio_high"]].tolist() == pytest.approx(expected.tolist())
    assert expected[0] < table.loc[("other", "zos"), "emulator_ratio"] < expected[1]


def test_without_draws_there_is_no_interval() -> None:
    table = compare({"emulator": sums(np.ones((3, 2)))}, STD, CONFIG.replace(bootstrap_draws=0), 15)
    assert table[["ratio_low", "ratio_high"]].isna().all(axis=None)
    assert (table["emulator_ratio"] == 1).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_starts_of_one_block_give_no_interval(n: int) -> None:
    """All draws would be the same starts, and an interval of no width would look like certainty."""
    rng = np.random.default_rng(0)
    both = {name: sums(rng.uniform(1, 9, (n, 2))) for name in ("emulator", "other")}
    table = compare(both, STD, CONFIG.replace(bootstrap_block_days=45.0), 15)
    assert table[["ratio_low", "ratio_high"]].isna().all(axis=None)
    assert table["emulator_ratio"].notna().all()
    lines = ratio_lines(table, [5.0])
    assert "nan" not in "".join(lines)


@pytest.mark.parametrize(("n", "block"), [(12, 3), (10, 4), (3, 7), (1, 1)])
def test_draws_are_circular_blocks_of_neighbours(n: int, block: int) -> None:
    draws = block_draws(n, block, CONFIG)
    assert draws.shape == (200, n)
    assert set(draws.ravel()) == set(range(n))
    steps = np.diff(draws, axis=1) % n
    within = [i for i in range(n - 1) if (i + 1) % block]
    assert (steps[:, within] == 1 % n).all()
    assert np.array_equal(draws, block_draws(n, block, CONFIG))
