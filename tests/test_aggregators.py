"""What training and validation say of a model: by value, on any number of ranks, whatever the batches."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ocean_emulators.aggregator import one_step
from ocean_emulators.aggregator.train import TrainAggregator
from ocean_emulators.aggregator.validate import ValidateAggregator
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.distributed import Ranks
from ocean_emulators.ocean.fields import channels
from ocean_emulators.stepper import BatchOutput, Fields
from tests.ranks import run_ranks

CPU = torch.device("cpu")
CHANNELS = channels(["thetao", "zos"], [0, 1])
STEPS = 3
HEAT = 1035.0 * 3992.0
"""published: J m-3 K-1"""


@pytest.fixture(scope="module")
def grid(store: PackedStore, statistics: Statistics) -> PreparedGrid:
    return PreparedGrid.of("x1", store, statistics)


def losses_only(losses: Sequence[object], grid: str = "x1") -> BatchOutput:
    """Losses [window, channel] of one model step that predicts one state."""
    values = torch.tensor(losses)[:, None, None]
    return BatchOutput(grid, values.mean(), values)


def output(grid: PreparedGrid, seed: int, windows: int) -> BatchOutput:
    """Random states, of which predictions are nearer to the truth than the last given ones."""
    generator = torch.Generator().manual_seed(seed)
    mask = grid.packing.prognostic_mask
    shape = (windows, STEPS, *mask.shape)
    truth, noise = (torch.randn(shape, generator=generator) * mask for _ in range(2))
    initial = truth[:, 0] - torch.randn(shape, generator=generator)[:, 0] * mask
    losses = torch.rand(windows, STEPS, 1, len(mask), generator=generator)
    return BatchOutput(grid.name, losses.mean(), losses, Fields(initial, truth + 0.1 * noise + 0.05 * mask, truth))


def parts(whole: BatchOutput, sizes: Sequence[int]) -> list[BatchOutput]:
    """The same windows in batches of other sizes."""
    assert whole.fields is not None
    f = whole.fields
    tensors = (t.split(list(sizes)) for t in (whole.losses, f.initial, f.predicted, f.truth))
    return [replace(whole, losses=a, fields=Fields(b, c, d)) for a, b, c, d in zip(*tensors, strict=True)]


def physical(grid: PreparedGrid, states: Tensor) -> np.ndarray:
    """[..., channel, lat, lon], float64, land NaN"""
    mask = grid.packing.prognostic_mask.numpy()
    n = len(mask)
    mean, std = (values[:n, None, None] for values in (grid.statistics.mean, grid.statistics.std))
    return np.where(mask, states.double().numpy() * std + mean, np.nan)


def heat_content(grid: PreparedGrid, fields: np.ndarray) -> np.ndarray:
    """[window, 1, lat, lon] of [window, channel, lat, lon]; channels begin with the levels of temperature."""
    heat = np.nansum(HEAT * fields[:, :2] * grid.store.grid.thickness[:2, None, None], axis=1)
    return np.where(np.isnan(fields[:, 0]), np.nan, heat)[:, None]


def nan_mean(values: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Over cells that have a value, by their area."""
    return np.asarray(np.nansum(values * area, (-2, -1)) / np.where(np.isnan(values), 0, area).sum((-2, -1)))


def steepness(fields: np.ndarray, area: np.ndarray) -> np.ndarray:
    return nan_mean(np.hypot(*np.gradient(fields, axis=(-2, -1))), area)


def by_hand(predicted: np.ndarray, truth: np.ndarray, area: np.ndarray) -> dict[str, np.ndarray]:
    """By name, means over windows of the published metrics, [channel], of fields with land NaN."""
    g, h = steepness(predicted, area), steepness(truth, area)
    values = {
        "weighted_rmse": np.sqrt(nan_mean((predicted - truth) ** 2, area)),
        "weighted_bias": nan_mean(predicted - truth, area),
        "weighted_grad_mag_percent_diff": 100 * (g - h) / h,
    }
    return {name: value.mean(0) for name, value in values.items()}


def test_each_window_counts_alike_whatever_its_batch() -> None:
    aggregator = TrainAggregator(CHANNELS, ["x1"], CPU)
    aggregator.record_batch(losses_only([[1.0, 2.0, 6.0]]))
    aggregator.record_batch(losses_only([[3.0, 4.0, 0.0], [5.0, 0.0, 3.0]]))
    assert aggregator.get_logs() == {
        "train/mean/loss": pytest.approx((3 + 2 + 3) / 3),
        "train/loss/channel/thetao_0": 3.0,
        "train/loss/channel/thetao_1": 2.0,
        "train/loss/channel/zos": 3.0,
        "train/loss/variable/thetao": 2.5,
        "train/loss/variable/zos": 3.0,
        "train/loss/depth/0": 3.0,
        "train/loss/depth/1": 2.0,
    }
    aggregator.reset()
    assert all(math.isnan(loss) for loss in aggregator.get_logs().values()), "no window, no loss"


def test_losses_are_of_all_model_steps_and_states() -> None:
    aggregator = TrainAggregator(CHANNELS[2:], ["x1"], CPU)
    losses = torch.tensor([1.0, 2.0, 3.0, 10.0]).view(1, 2, 2, 1)
    aggregator.record_batch(BatchOutput("x1", losses.mean(), losses))
    assert aggregator.get_logs()["train/mean/loss"] == 4.0


def test_grids_are_kept_apart_and_named() -> None:
    aggregator = TrainAggregator(CHANNELS, ["x1", "x2"], CPU)
    aggregator.record_batch(losses_only([[1.0, 1.0, 1.0]]))
    aggregator.record_batch(losses_only([[2.0, 2.0, 5.0]], "x2"))
    logs = aggregator.get_logs()
    assert list(logs) == aggregator.log_names
    assert (logs["train/mean/loss"], logs["train/x2/mean/loss"]) == (1.0, 3.0)
    assert logs["train/x2/loss/channel/zos"] == 5.0


def test_recent_losses_are_those_since_one_last_asked() -> None:
    aggregator = TrainAggregator(CHANNELS, ["x1", "x2"], CPU)
    assert aggregator.recent() == {}
    aggregator.record_batch(losses_only([[1.0, 1.0, 1.0], [3.0, 3.0, 3.0]]))
    recent = aggregator.recent()
    assert set(recent) == {
        name.replace("train/", "train/recent/", 1) for name in aggregator.log_names if "x2" not in name
    }
    assert set(recent.values()) == {2.0}
    aggregator.record_batch(losses_only([[4.0, 4.0, 1.0]], "x2"))
    aggregator.reset()
    recent = aggregator.recent()
    assert recent["train/recent/x2/mean/loss"] == 3.0, "an epoch's end hides none"
    assert recent["train/recent/x2/loss/channel/zos"] == 1.0
    assert "train/recent/mean/loss" not in recent


@given(st.integers(0, 6), st.integers(0, 2**32))
def test_one_that_is_interrupted_goes_on_bit_for_bit(cut: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.rand(1 + k % 3, 2, 1, 3, generator=generator) for k in range(6)]
    outputs = [BatchOutput("x2" if k % 2 else "x1", losses.mean(), losses) for k, losses in enumerate(batches)]
    whole, before, after = (TrainAggregator(CHANNELS, ["x1", "x2"], CPU) for _ in range(3))
    for batch in outputs[:cut]:
        before.record_batch(batch)
    after.load_state_dict(before.state_dict())
    for batch in outputs[cut:]:
        before.record_batch(batch)  # what was saved must not change with it
        after.record_batch(batch)
    for batch in outputs:
        whole.record_batch(batch)
    assert after.get_logs() == whole.get_logs() == before.get_logs()
    assert after.recent() == whole.recent()


def test_the_state_of_another_training_is_refused() -> None:
    state = TrainAggregator(CHANNELS[:2], ["x1"], CPU).state_dict()
    with pytest.raises(ValueError, match="it holds 3 sums where 4 are kept"):
        TrainAggregator(CHANNELS, ["x1"], CPU).load_state_dict(state)


def test_metrics_of_a_step_are_those_of_its_physical_fields(grid: PreparedGrid) -> None:
    whole = output(grid, 0, 5)
    aggregator = ValidateAggregator({"x1": grid}, STEPS)
    for batch in parts(whole, [3, 0, 2]):
        aggregator.record_batch(batch)
    logs = aggregator.get_logs()
    assert list(logs) == aggregator.log_names
    assert logs["val/mean/loss"] == pytest.approx(whole.losses.mean().item())

    assert whole.fields is not None
    predicted, truth = (physical(grid, states[:, 0]) for states in (whole.fields.predicted, whole.fields.truth))
    area = grid.store.grid.area
    of_channels = by_hand(predicted, truth, area)
    of_heat = by_hand(heat_content(grid, predicted), heat_content(grid, truth), area)
    for metric, values in of_channels.items():
        digits = 1e-4 if "percent" in metric else 1e-6  # of percents of a difference of two near numbers
        for channel, value in zip(grid.store.prognostic, values, strict=True):
            assert logs[f"val/reduced/{metric}/{channel.name}"] == pytest.approx(value, rel=1e-5, abs=digits)
        heat = logs[f"val/reduced/{metric}/ocean_heat_content"]
        assert heat == pytest.approx(of_heat[metric][0], rel=1e-6)


def test_errors_by_step_are_in_standard_deviations(grid: PreparedGrid) -> None:
    whole = output(grid, 1, 4)
    aggregator = ValidateAggregator({"x1": grid}, STEPS)
    aggregator.record_batch(whole)
    logs = aggregator.get_logs()
    assert whole.fields is not None
    error = np.where(grid.packing.prognostic_mask, (whole.fields.predicted - whole.fields.truth).numpy(), np.nan)
    rmse = np.sqrt(nan_mean(error**2, grid.store.grid.area)).mean((0, 2))
    assert [logs[f"val/rmse/step{k}"] for k in (1, 2, 3)] == pytest.approx(rmse.tolist(), rel=1e-5)


def test_a_prediction_that_is_not_finite_shows_in_its_field_alone(grid: PreparedGrid) -> None:
    batch = output(grid, 2, 2)
    assert batch.fields is not None
    batch.fields.predicted[1, 0, 0][grid.packing.prognostic_mask[0]] = torch.nan
    aggregator = ValidateAggregator({"x1": grid}, STEPS)
    aggregator.record_batch(batch)
    lost = {name.rpartition("/")[2] for name, value in aggregator.get_logs().items() if math.isnan(value)}
    assert lost == {grid.store.prognostic[0].name, "ocean_heat_content", "step1"}


def test_memory_is_bounded_without_a_trace(grid: PreparedGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    together, apart = (ValidateAggregator({"x1": grid}, STEPS) for _ in range(2))
    monkeypatch.setitem(one_step._VALUES_AT_ONCE, "cpu", 2**20)
    together.record_batch(output(grid, 3, 4))
    monkeypatch.setitem(one_step._VALUES_AT_ONCE, "cpu", 1)
    apart.record_batch(output(grid, 3, 4))
    assert together.get_logs() == pytest.approx(apart.get_logs(), rel=1e-6)


def test_maps_are_means_over_windows_and_the_first_of_them(grid: PreparedGrid) -> None:
    whole = output(grid, 4, 5)
    aggregator = ValidateAggregator({"x1": grid}, STEPS)
    for batch in parts(whole, [0, 2, 3]):
        aggregator.record_batch(batch)
    maps = aggregator.get_maps()["x1"]
    assert whole.fields is not None
    f = whole.fields
    initial, predicted, truth = (physical(grid, s) for s in (f.initial, f.predicted[:, 0], f.truth[:, 0]))
    expected = {
        "mean_truth": truth.mean(0),
        "mean_prediction": predicted.mean(0),
        "mean_error": (predicted - truth).mean(0),
        "truth": truth[0],
        "prediction": predicted[0],
        "error": (predicted - truth)[0],
        "true_increment": (truth - initial)[0],
        "increment": (predicted - initial)[0],
    }
    assert set(maps) == set(expected)
    channels = grid.store.prognostic
    shown = [k for k, channel in enumerate(channels) if channel.level in (0, None)]
    for name, values in expected.items():
        assert np.allclose(maps[name], values[shown], rtol=1e-4, atol=1e-4, equal_nan=True), name
    assert list(maps["channel"]) == [channels[k].name for k in shown]

    aggregator.reset()
    aggregator.record_batch(output(grid, 5, 1))
    again = ValidateAggregator({"x1": grid}, STEPS)
    again.record_batch(output(grid, 5, 1))
    xr.testing.assert_identical(aggregator.get_maps()["x1"], again.get_maps()["x1"])


def test_each_grid_has_metrics_and_maps(grid: PreparedGrid) -> None:
    coarse = replace(grid, name="x2")
    aggregator = ValidateAggregator({"x1": grid, "x2": coarse}, STEPS)
    aggregator.record_batch(output(grid, 6, 1))
    aggregator.record_batch(output(coarse, 7, 2))
    logs = aggregator.get_logs()
    assert list(logs) == aggregator.log_names
    first, second = (logs[f"val{grid}/reduced/weighted_rmse/zos"] for grid in ("", "/x2"))
    assert first > 0 < second != first
    assert list(aggregator.get_maps()) == ["x1", "x2"]


def on_ranks(ranks: Ranks, grid: PreparedGrid) -> tuple[dict[str, float], ...]:
    """Logs of seven windows, of which each rank has its share: none, where there are more ranks."""
    train = TrainAggregator(grid.store.prognostic, ["x1"], CPU, ranks)
    validate = ValidateAggregator({"x1": grid}, STEPS, ranks)
    sizes = [1 if n in ranks.share(range(7)) else 0 for n in range(7)]
    for batch, mine in zip(parts(output(grid, 8, 7), [1] * 7), sizes, strict=True):
        for aggregator in (train, validate) if mine else ():
            aggregator.record_batch(batch)
    maps = validate.get_maps()["x1"]
    means = {name: float(np.abs(maps[name]).mean()) for name in ("mean_truth", "mean_error")}
    return train.recent(), train.get_logs(), validate.get_logs(), means


@pytest.mark.parametrize("n", [2, 3])
def test_ranks_say_together_what_one_says_alone(n: int, grid: PreparedGrid) -> None:
    alone = on_ranks(Ranks(), grid)
    for found in run_ranks(on_ranks, n, grid):
        for logs, expected in zip(found, alone, strict=True):
            assert logs == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_recording_needs_no_value_on_the_host(grid: PreparedGrid) -> None:
    """On a device whose tensors have no values at all: what would wait for one fails."""
    nowhere = torch.device("meta")
    there = PreparedGrid.of("x1", grid.store, grid.statistics, device=nowhere)
    batch = output(grid, 9, 2)
    assert batch.fields is not None
    f = Fields(*(t.to(nowhere) for t in (batch.fields.initial, batch.fields.predicted, batch.fields.truth)))
    batch = BatchOutput("x1", batch.loss.to(nowhere), batch.losses.to(nowhere), f)
    train = TrainAggregator(grid.store.prognostic, ["x1"], nowhere)
    validate = ValidateAggregator({"x1": there}, STEPS)
    for aggregator in (train, validate):
        aggregator.record_batch(batch)
        with pytest.raises(NotImplementedError, match="meta"):
            aggregator.get_logs()
