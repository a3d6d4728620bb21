"""Weighted sums equal numpy on the dense fields, and add up."""

import numpy as np
import pytest
import torch
import xarray as xr

from ocean_emulators.aggregator.inference import InferenceEvaluatorAggregator
from ocean_emulators.aggregator.metrics import (
    METRICS,
    acc,
    bias,
    by_variable,
    mean_over_starts,
    normalised_rmse,
    rmse,
    score_table,
)
from ocean_emulators.aggregator.statistics import STATISTICS
from ocean_emulators.aggregator.sums import SumsOfRollouts, WeightedSums
from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.requirements import DataRequirements
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.eval.rollout import run_rollout
from ocean_emulators.experiment import Experiment
from ocean_emulators.forecasting.base import BASELINES, Climatology, Past
from ocean_emulators.ocean.fields import channels
from ocean_emulators.ocean.grid import Grid, cell_area
from ocean_emulators.ocean.regions import NINO34, REGIONS, Region

BOXES = (*REGIONS.values(), NINO34)


@pytest.fixture
def packing(store: PackedStore, statistics: Statistics) -> Packing:
    return Packing.of(store, statistics)


def test_moments_equal_numpy_in_every_region(packing: Packing, store: PackedStore) -> None:
    rng = np.random.default_rng(0)
    p, t, c = (rng.normal(size=(2, packing.n_prognostic_cells)).astype("f4") for _ in range(3))
    sums = WeightedSums(packing, store.grid, BOXES)
    moments = sums.of(*map(torch.from_numpy, (p, t, c))).numpy()
    fields = [packing.to_fields(rows.astype("f8")) for rows in (p, t, c)]
    for r, region in enumerate(BOXES):
        for k, channel in enumerate(packing.prognostic):
            weight = store.grid.area * region.mask(store.grid) * store.mask[k]
            assert sums.weight[r, k].item() == pytest.approx(weight.sum(), rel=1e-12)
            x, y, z = (np.nan_to_num(f[channel.name]) for f in fields)
            named = {
                "error": x - y,
                "squared_error": (x - y) ** 2,
                "predicted": x,
                "truth": y,
                "squared_predicted_anomaly": (x - z) ** 2,
                "squared_true_anomaly": (y - z) ** 2,
                "anomaly_product": (x - z) * (y - z),
            }
            for m, name in enumerate(STATISTICS):
                expected = (weight * named[name]).sum((1, 2))
                assert np.allclose(moments[:, m, r, k], expected, rtol=1e-9, atol=1e-6 * weight.sum())


def test_starts_do_not_mix(packing: Packing, store: PackedStore) -> None:
    torch.manual_seed(0)
    rows = torch.randn(3, 4, packing.n_prognostic_cells)
    sums = WeightedSums(packing, store.grid, BOXES)
    whole = sums.of(*rows)
    parts = torch.cat([sums.of(*rows[:, i : i + 1]) for i in range(4)])
    assert torch.allclose(whole, parts, rtol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_of_starts_do_not_matter(
    batch_size: int, packing: Packing, store: PackedStore, statistics: Statistics, experiment: Experiment
) -> None:
    climatology = Climatology(store, statistics, packing.n_prognostic_cells)
    weighted = WeightedSums(packing, store.grid, BOXES)
    rows = Rows(store, packing, store.indices(experiment.data.periods.test, "test"), "none")
    data = InferenceDataset(rows, "test", DataRequirements(1, 1, ()))
    persistence = BASELINES["persistence"](Past(store, climatology, range(0)))
    starts = data.starts(4, 4)

    def score(size: int) -> xr.Dataset:
        aggregator = InferenceEvaluatorAggregator(data, climatology, weighted, starts, 4)
        run_rollout(persistence, starts, 4, [aggregator], size)
        return aggregator.get_dataset()

    whole, parts = score(100), score(batch_size)
    xr.testing.assert_allclose(whole, parts, rtol=1e-12)
    assert list(whole["lead"].values) == [5, 10, 15, 20]
    assert list(whole["start"].values) == [str(store.time[s]) for s in starts]


def sums_of(predicted: list[list[float]], truth: list[list[float]], climatology: list[list[float]]) -> xr.Dataset:
    """One start, one lead, `zos` on a grid of two rows (0 to 30°N and 30 to 60°N) and two columns."""
    lat, lon = np.array([15.0, 45.0]), np.array([90.0, 270.0])
    grid = Grid(lat, lon, cell_area(lat, lon), np.array([10.0]), np.array([20.0]))
    chosen = channels(["zos"], [0])
    ones = np.ones(1)
    statistics = Statistics(ones, ones, ones, np.zeros((73, 4), "f4"), ("zos",), "")
    packing = Packing(chosen, (), np.ones((1, 2, 2), bool), statistics)
    collected = SumsOfRollouts(WeightedSums(packing, grid, (REGIONS["global"],)), 1, 1)
    rows = [torch.tensor(x).reshape(1, 4) for x in (predicted, truth, climatology)]
    collected.record(slice(0, 1), 1, *rows)
    return collected.to_dataset(["now"], 5.0)


def test_cells_weigh_by_their_area() -> None:
    """The rows have areas as sin 30° - sin 0° to sin 60° - sin 30°."""
    sums = sums_of([[1.0, 1.0], [3.0, 3.0]], [[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]])
    south = 0.5 / np.sin(np.deg2rad(60))
    mean = mean_over_starts(sums)
    assert bias(mean).item() == pytest.approx(south + 3 * (1 - south))
    assert rmse(mean).item() == pytest.approx(np.sqrt(south + 9 * (1 - south)))


def test_truth_itself_is_perfect() -> None:
    x = [[1.0, -2.0], [3.0, 0.5]]
    mean = mean_over_starts(sums_of(x, x, [[0.0, 0.0], [0.0, 0.0]]))
    assert (rmse(mean).item(), bias(mean).item(), acc(mean).item()) == (0, 0, pytest.approx(1))


@pytest.mark.parametrize(("factor", "expected"), [(0.2, 1.0), (-3.0, -1.0), (0.0, 0.0)])
def test_acc_knows_no_amplitude(factor: float, expected: float) -> None:
    x = np.array([[1.0, -2.0], [3.0, 0.5]])
    sums = sums_of((7 + factor * x).tolist(), (7 + x).tolist(), [[7.0, 7.0], [7.0, 7.0]])
    assert acc(mean_over_starts(sums)).item() == pytest.approx(expected, abs=1e-6)


def test_the_table_has_every_score_with_its_unit() -> None:
    sums = sums_of([[2.0, 2.0], [2.0, 2.0]], [[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]])
    std = xr.DataArray([4.0], dims="channel", coords={"channel": ["zos"]})
    table = score_table(sums, std).set_index("metric")
    assert dict(table["value"]) == pytest.approx({"rmse": 1, "bias": 1, "acc": 1, "nrmse": 0.25})
    assert dict(table["units"]) == {"rmse": "m", "bias": "m", "acc": "1", "nrmse": "1"}
    assert normalised_rmse(sums, std).sel(variable="all").item() == pytest.approx(0.25)


def test_variables_are_means_of_their_channels() -> None:
    values = xr.DataArray([1.0, 3.0, 8.0], dims="channel", coords={"channel": ["so_0", "so_1", "zos"]})
    means = by_variable(values)
    assert dict(zip(means["variable"].values, means.values.tolist(), strict=True)) == {"all": 4, "so": 2, "zos": 8}


def test_a_region_without_ocean_has_no_scores(packing: Packing, store: PackedStore) -> None:
    rows = torch.randn(1, packing.n_prognostic_cells)
    collected = SumsOfRollouts(WeightedSums(packing, store.grid, [Region("pole", 85, 90.1)]), 1, 1)
    collected.record(slice(0, 1), 1, rows, rows, 0 * rows)
    mean = mean_over_starts(collected.to_dataset(["then"], 5.0))
    for name, metric in METRICS.items():
        assert metric.of(mean).isnull().all(), name
