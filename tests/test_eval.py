"""Predictions are a CF dataset that any tool opens."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.eval.config import EvaluationConfig
from ocean_emulators.eval.writer import PredictionsWriter
from tests import tiny


@pytest.mark.parametrize("times_per_file", [1, 3, 4])
def test_rows_become_fields_with_names_units_and_nan_on_land(
    store: PackedStore, statistics: Statistics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times_per_file: int
) -> None:
    packing = Packing.of(store, statistics)
    rows = store.rows(10, 14)[:, : packing.n_prognostic_cells]
    monkeypatch.setattr("ocean_emulators.eval.writer.FILE_BYTES", times_per_file * 4 * packing.n_prognostic_cells)
    writer = PredictionsWriter(tmp_path / "predictions.zarr", store.time[10:14], store.grid, packing)
    for step, row in enumerate(rows, start=1):
        writer.record(slice(0, 1), step, torch.from_numpy(row)[None])
        assert len(writer.waiting) < times_per_file, "no more is held than a file"
    times = xr.coders.CFDatetimeCoder(use_cftime=True)
    read = xr.open_zarr(tmp_path / "predictions.zarr", decode_times=times).load()
    truth = tiny.dataset().isel(time=slice(10, 14))

    assert read.attrs["Conventions"] == "CF-1.10"
    assert read["thetao"].dims == ("time", "lev", "lat", "lon")
    assert read["zos"].dims == ("time", "lat", "lon")
    for name in ("thetao", "so", "uo", "vo"):
        for k in range(tiny.LEVELS):
            assert np.array_equal(read[name].isel(lev=k).values, truth[f"{name}_{k}"].values, equal_nan=True)
    assert np.array_equal(read["zos"].values, truth["zos"].values, equal_nan=True)
    assert (read["zos"].isnull() == ~store.mask[8]).all()
    assert np.array_equal(read["time"].values, truth["time"].values)
    assert read["thetao"].attrs["standard_name"] == "sea_water_potential_temperature"
    assert read["thetao"].attrs["units"] == "degC"
    for name in ("lat", "lon", "lev", "time"):
        assert {"standard_name", "axis"} <= set(read[name].attrs)
    assert read["lev"].attrs["positive"] == "down"
    assert np.array_equal(read["areacello"].values, store.grid.area)


def test_leads_are_whole_steps_and_at_least_one() -> None:
    assert EvaluationConfig(lead_days=90).steps(5) == 18
    assert EvaluationConfig(lead_days=12).steps(5) == 2
    assert EvaluationConfig(lead_days=1, report_days=[1]).steps(5) == 1
