"""The coded ocean goes the whole way: from a source through batches, steps that change nothing, files and scores.

Each of its values tells its variable, level, time and cell, and normalisation is by powers of two, which float32 does
exactly: what comes out at the wrong place is seen, to the last cell.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from ocean_emulators.aggregator.inference import InferenceEvaluatorAggregator
from ocean_emulators.aggregator.metrics import score_table
from ocean_emulators.aggregator.sums import WeightedSums
from ocean_emulators.build import context_of
from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.loading.train_data import Draw, TrainData, Windows
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.datasets.requirements import DataRequirements
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore, open_store, store_path
from ocean_emulators.eval.rollout import run_rollout
from ocean_emulators.eval.snapshots import Snapshots
from ocean_emulators.eval.writer import PredictionsWriter
from ocean_emulators.forecasting.base import Climatology, Forecaster
from ocean_emulators.forecasting.emulator import Emulator
from ocean_emulators.ocean import calendar
from ocean_emulators.ocean.fields import Channel
from ocean_emulators.ocean.regions import REGIONS
from ocean_emulators.stepper import Stepper
from ocean_emulators.testing.coded_ocean import channel_number, decode, encode, write_om4
from tests.coded import LAYOUTS, SHAPE, config
from tests.samudras import small
from tests.windows import NEEDS

TIMES = 14
N_CELLS = SHAPE[0] * SHAPE[1]
WAYS = [(layout, land) for layout in LAYOUTS for land in (np.nan, 0.0)]


def by_powers_of_two(store: PackedStore) -> Statistics:
    """Normalised codes lie between 1 and 2; the climatology is zero."""
    std = np.array([2.0 ** (channel_number(c) - 40) for c in store.channels])
    bins, _ = calendar.day_of_year_bins(store.time, store.step_days)
    climatology = np.zeros((int(bins.max()) + 1, int(store.mask.sum())), "f4")
    return Statistics(
        np.zeros(len(std)), std, std, climatology, tuple(c.name for c in store.channels), "of powers of two"
    )


@pytest.fixture(scope="module", params=WAYS, ids=str)
def grid(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PreparedGrid:
    """The coded ocean, prepared from one of the layouts."""
    (layout, land), folder = request.param, tmp_path_factory.mktemp("coded")
    write_om4(folder / "s.zarr", SHAPE, TIMES, 19 if layout == "older" else 3, layout, land=land, encode=True)
    prepare(config(folder / "s.zarr", [0, 2], ["tauuo", "hfds"]), folder / "prepared")
    store = open_store(store_path(folder / "prepared", "x1"))
    return PreparedGrid.of("x1", store, by_powers_of_two(store))


def rows_of(grid: PreparedGrid) -> Rows:
    """Of the test period."""
    return Rows(grid.store, grid.packing, range(4, TIMES), "none")


def require_code(values: np.ndarray, of: Channel, time: int, mask: np.ndarray) -> None:
    """Values [lat, lon] are, in the ocean, those of a channel and a time, each in its cell."""
    number, times, lat, lon = decode(values[mask], SHAPE)
    assert (number == channel_number(of)).all(), of.name
    assert (times == time).all(), of.name
    assert (np.stack([lat, lon], -1) == np.argwhere(mask)).all(), of.name


@pytest.mark.parametrize("needs", [NEEDS[1], NEEDS[3]], ids=str)
def test_batches_hold_each_value_in_its_place(grid: PreparedGrid, needs: DataRequirements) -> None:
    windows = Windows(rows_of(grid), "test", needs, 1, strides=(1, 2))
    batch = TrainData({"x1": windows}).load(Draw("x1", list(range(len(windows)))))
    std = grid.statistics.std[:, None, None].astype("f4")
    fields = torch.cat([batch.prognostic, batch.forcing], dim=2).numpy() * std
    assert (fields[:, :, ~grid.store.mask] == 0).all(), "land"
    for window, (first, stride) in zip(fields, windows.starts, strict=True):
        for k, state in enumerate(window):
            for values, of, mask in zip(state, grid.store.channels, grid.store.mask, strict=True):
                require_code(values, of, first + k * stride, mask)


class Truth:
    """Forecasts what came: a `Forecaster`."""

    def __init__(self, data: InferenceDataset) -> None:
        self.data = data

    def forecast(self, starts: Sequence[int], steps: int) -> Iterator[Tensor]:
        """See `Forecaster`."""
        for step in range(1, steps + 1):
            yield self.data.truth(starts, step)


class Still(Truth):
    """Forecasts what was."""

    def forecast(self, starts: Sequence[int], steps: int) -> Iterator[Tensor]:
        """See `Forecaster`."""
        for _ in range(steps):
            yield self.data.truth(starts, 0)


def without_change(grid: PreparedGrid, data: InferenceDataset) -> Emulator:
    """An emulator whose network has learned that nothing changes."""
    network = small(prediction="change")
    model = network.build(context_of(grid))
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    return Emulator(Stepper(model, network), data)


def forecaster(name: str, grid: PreparedGrid, data: InferenceDataset) -> Forecaster:
    return {"truth": Truth(data), "still": Still(data)}.get(name) or without_change(grid, data)


FORECASTERS = ["truth", "still", "emulator"]


@pytest.mark.parametrize("name", FORECASTERS)
def test_predictions_lie_in_their_place_in_the_file(grid: PreparedGrid, name: str, tmp_path: Path) -> None:
    data = InferenceDataset(rows_of(grid), "test", small().requirements)
    start, steps = 4, data.longest_rollout()
    assert steps == TIMES - 5
    written = range(start + 1, start + 1 + steps)
    snapshots = Snapshots(data, start, {"second": 2, "end": steps})
    writer = PredictionsWriter(tmp_path / "p.zarr", grid.store.time[list(written)], grid.store.grid, grid.packing)
    run_rollout(forecaster(name, grid, data), [start], steps, [snapshots, writer])
    times = xr.coders.CFDatetimeCoder(use_cftime=True)
    read = xr.open_zarr(tmp_path / "p.zarr", decode_times=times).load()
    assert np.array_equal(read["time"], grid.store.time[list(written)])
    for of, mask in zip(grid.store.prognostic, grid.store.mask, strict=False):
        for k, time in enumerate(written):
            require_field(read.isel(time=k), grid, of, mask, time if name == "truth" else start)
        for step, key in ((2, "second"), (steps, "end")):
            truth, predicted = snapshots.kept[key]
            require_field(truth, grid, of, mask, start + step)
            require_field(predicted, grid, of, mask, start + step if name == "truth" else start)


def require_field(dataset: xr.Dataset, grid: PreparedGrid, of: Channel, mask: np.ndarray, time: int) -> None:
    """A dataset of one time holds the channel, at its depth, with NaN on land."""
    field = dataset[of.field.name]
    field = field if of.level is None else field.sel(lev=grid.store.grid.lev[of.level])
    assert field.dims == ("lat", "lon")
    assert np.isnan(field.values[~mask]).all()
    require_code(field.values, of, time, mask)


@pytest.mark.parametrize("name", FORECASTERS)
def test_scores_are_those_taken_by_hand(grid: PreparedGrid, name: str) -> None:
    data = InferenceDataset(rows_of(grid), "test", small().requirements)
    starts, steps = [4, 7, 10], 3
    climatology = Climatology(grid.store, grid.statistics, grid.packing.n_prognostic_cells)
    sums = WeightedSums(grid.packing, grid.store.grid, tuple(REGIONS.values()))
    aggregator = InferenceEvaluatorAggregator(data, climatology, sums, starts, steps)
    run_rollout(forecaster(name, grid, data), starts, steps, [aggregator], batch_size=2)
    table = score_table(aggregator.get_dataset(), grid.prognostic_std())
    lat = np.linspace(-90, 90, SHAPE[0] + 1)
    area = np.broadcast_to(np.diff(np.sin(np.deg2rad(lat)))[:, None], SHAPE)
    inside = {"global": np.abs(lat[:-1] + 15) <= 90, "tropics": np.abs(lat[:-1] + 15) < 20}
    found = table.set_index(["lead", "region", "channel", "metric"])["value"].unstack("metric")
    for region, rows in inside.items():
        for of, mask in zip(grid.store.prognostic, grid.store.mask, strict=False):
            weight = (area * mask)[rows].astype("f8")
            for step in range(1, steps + 1):
                wanted = by_hand(of, weight, rows, name, starts, step)
                for metric, value in found.loc[(5.0 * step, region, of.name)].items():
                    if weight.sum():
                        assert value == pytest.approx(wanted[str(metric)], rel=1e-9, abs=0), (of.name, metric)


def by_hand(
    of: Channel, weight: np.ndarray, rows: np.ndarray, name: str, starts: list[int], step: int
) -> dict[str, Any]:
    """A later code is greater by as much as there are cells, in the unit of its channel."""
    unit = 2.0 ** (channel_number(of) - 63)
    error = 0.0 if name == "truth" else step * N_CELLS * unit
    codes = encode(channel_number(of), np.arange(TIMES), SHAPE)[:, rows].astype("f8")
    true = [codes[s + step] for s in starts]
    predicted = true if name == "truth" else [codes[s] for s in starts]

    def mean(a: list[np.ndarray], b: list[np.ndarray]) -> float:
        return sum(float((weight * x * y).sum()) for x, y in zip(a, b, strict=True))

    correlation = mean(predicted, true) / np.sqrt(mean(predicted, predicted) * mean(true, true)) if weight.any() else 0
    return {"rmse": error, "bias": -error, "nrmse": error / 2.0 ** (channel_number(of) - 40), "acc": correlation}
