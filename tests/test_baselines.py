"""Baselines are their formulas."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ocean_emulators.datasets.config import Period
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.experiment import Experiment
from ocean_emulators.forecasting.base import BASELINES, Climatology, Past
from ocean_emulators.forecasting.baselines.damped_anomaly_persistence import lag_regression

STARTS, STEPS = [150, 170], 3


@pytest.fixture
def climatology(store: PackedStore, statistics: Statistics) -> Climatology:
    return Climatology(store, statistics, int(store.cells_per_channel[: len(store.prognostic)].sum()))


def past(store: PackedStore, climatology: Climatology, train: Period) -> Past:
    return Past(store, climatology, store.indices(train, "train"))


def by_hand(name: str, x: np.ndarray, clim: np.ndarray, damping: np.ndarray, step: int) -> np.ndarray:
    """`x` and `clim` are [time, cell]; of every year the tiny ocean has 73 times."""
    now, then = np.array(STARTS), np.array(STARTS) + step
    anomaly = x[now] - clim[now % 73]
    return {
        "persistence": x[now],
        "climatology": clim[then % 73],
        "anomaly_persistence": clim[then % 73] + anomaly,
        "damped_anomaly_persistence": clim[then % 73] + damping[step - 1] * anomaly,
    }[name]


def damping_by_hand(x: np.ndarray, clim: np.ndarray) -> np.ndarray:
    a = x[:146].astype("f8") - clim[np.arange(146) % 73]
    return np.stack([(a[:-lag] * a[lag:]).sum(0) / (a[:-lag] ** 2).sum(0) for lag in range(1, STEPS + 1)])


@pytest.mark.parametrize("name", list(BASELINES))
def test_forecasts_by_hand(name: str, store: PackedStore, climatology: Climatology, experiment: Experiment) -> None:
    clim = climatology.at(range(73)).numpy()
    x = store.rows(0, len(store.time))[:, : climatology.n_cells]
    baseline = BASELINES[name](past(store, climatology, experiment.data.periods.train))
    forecast = list(baseline.forecast(STARTS, STEPS))
    assert len(forecast) == STEPS
    for step, rows in enumerate(forecast, start=1):
        assert np.allclose(rows, by_hand(name, x, clim, damping_by_hand(x, clim), step), atol=2e-4)


def test_damping_is_the_lagged_regression_of_the_training_period(
    store: PackedStore, climatology: Climatology, experiment: Experiment
) -> None:
    clim = climatology.at(range(73)).numpy()
    expected = damping_by_hand(store.rows(0, 146)[:, : clim.shape[1]], clim)
    damping = lag_regression(past(store, climatology, experiment.data.periods.train), STEPS).numpy()
    assert damping.shape == expected.shape
    assert np.allclose(damping, expected, atol=1e-3)


def test_a_cell_without_anomalies_is_damped_away(
    store: PackedStore, statistics: Statistics, climatology: Climatology, experiment: Experiment
) -> None:
    n_cells = climatology.n_cells
    first, second = (torch.from_numpy(store.rows(i, i + 73)[:, :n_cells]) for i in (0, 73))
    same = torch.where(torch.arange(n_cells) == 4, first, climatology.at(range(73))).numpy()
    climatology = Climatology(store, replace(statistics, climatology=same), n_cells)
    assert (second[:, 4] != first[:, 4]).any()
    year = experiment.data.periods.train.replace(end="2000-12-31")
    damping = lag_regression(past(store, climatology, year), STEPS)
    assert (damping[:, 4] == 0).all()
    assert (damping[:, :4] != 0).all()
