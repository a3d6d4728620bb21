"""Evaluation: free rollouts of a trained emulator from its averaged weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from pydantic import Field, model_validator
from torch import Tensor

from ocean_emulators.config import Config
from ocean_emulators.config.base import shown
from ocean_emulators.config.bounds import Count, Days
from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.ocean.fields import field
from ocean_emulators.stepper import Stepper

_TIMES_PER_FILE = 73


class EvaluationConfig(Config):
    lead_days: Days = 90.0
    """length of the forecasts from starts spread over the test period, days; a multiple of the data's time step"""
    coarsen: Count | None = None
    """the resolution of data.coarsen that is rolled out, by its factor; null is the first; it need not be trained on"""
    start_every: Count = 1
    """distance of those starts, in time steps of the data"""
    batch_size: Count = 8
    """forecasts that run side by side; bounds the memory"""
    report_days: tuple[Days, ...] = Field((10.0, 20.0, 30.0, 60.0, 90.0), min_length=1)
    """leads shown in tables and summaries, days; those beyond lead_days are not reached, and left out"""

    @model_validator(mode="after")
    def _something_is_shown(self) -> "EvaluationConfig":
        if min(self.report_days) > self.lead_days:
            raise ValueError(
                f"report_days: found {shown(self.report_days)}, but the forecasts end after {self.lead_days:g} days "
                "(lead_days), and tables would be empty; give some up to that"
            )
        return self

    def steps(self, step_days: float) -> int:
        """The forecasts' length in time steps of the data."""
        return max(1, round(self.lead_days / step_days))

    def reported_leads(self, leads: np.ndarray) -> list[float]:
        """Those of the `leads` reached (days) that tables and summaries show."""
        return [float(lead) for lead in leads if np.isclose(lead, self.report_days).any()]


@dataclass(frozen=True)
class Emulator:
    """A trained emulator as a forecaster, see `baselines.Forecaster`."""

    stepper: Stepper
    data: InferenceDataset

    def forecast(self, starts: Sequence[int], steps: int) -> Iterator[Tensor]:
        """Free rollouts."""
        pack = self.data.rows.packing.pack
        return map(pack, self.stepper.inference(self.data, starts, steps))


def write_predictions(rows: np.ndarray, time: np.ndarray, store: PackedStore, packing: Packing, path: Path) -> None:
    """A rollout as a CF dataset in Zarr: variables (time, lev, lat, lon), physical units, land NaN.

    `rows` are [time, prognostic cell], `time` [time] the times that they hold at.
    """
    predictions_dataset(rows, time, store, packing).to_zarr(path, mode="w", zarr_format=3)


def predictions_dataset(rows: np.ndarray, time: np.ndarray, store: PackedStore, packing: Packing) -> xr.Dataset:
    """Rows [time, prognostic cell] as fields with names, units and coordinates."""
    fields = packing.to_fields(rows)
    levels = sorted({c.level for c in packing.prognostic if c.level is not None})
    dataset = store.grid.to_dataset().isel(lev=levels).assign_coords(time=("time", time))
    dataset["time"].attrs = {"standard_name": "time", "axis": "T"}
    dataset["time"].encoding = {"units": "days since 1900-01-01", "dtype": "float64"}
    for name in dict.fromkeys(c.field.name for c in packing.prognostic):
        entry = field(name)
        attributes = {"standard_name": entry.standard_name, "long_name": entry.long_name, "units": entry.units}
        attributes |= {"cell_methods": "time: mean", "cell_measures": "area: areacello"}
        if entry.has_levels:
            data = np.stack([fields[f"{name}_{k}"] for k in levels], axis=1)
            dataset[name] = (("time", "lev", "lat", "lon"), data, attributes)
        else:
            dataset[name] = (("time", "lat", "lon"), fields[name], attributes)
        dataset[name].encoding = {
            "chunks": (1, *dataset[name].shape[1:]),
            "shards": (min(len(time), _TIMES_PER_FILE), *dataset[name].shape[1:]),
        }
    dataset.attrs = {"Conventions": "CF-1.10", "title": "Free rollout of an ocean emulator"}
    return dataset
