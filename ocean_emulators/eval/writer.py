"""Predictions as CF datasets: variables (time, lev, lat, lon), physical units, land NaN."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import torch
import xarray as xr
import zarr
from torch import Tensor
from zarr.codecs import Crc32cCodec, ZstdCodec

from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.eval.config import FILE_BYTES
from ocean_emulators.files import writing
from ocean_emulators.ocean.fields import field
from ocean_emulators.ocean.grid import Grid
from ocean_emulators.sealing import seal


class PredictionsWriter:
    """Writes one rollout to a Zarr store while it runs: a sink of `run_rollout`.

    Memory holds the times of one file of each field.
    """

    def __init__(self, path: Path, time: np.ndarray, grid: Grid, packing: Packing) -> None:
        """`time` [time] are the times of all steps."""
        self.path, self.packing, self.n_steps = path, packing, len(time)
        row_bytes = 4 * packing.n_prognostic_cells
        self.times_per_file = max(1, min(len(time), FILE_BYTES // row_bytes))
        self.waiting: list[Tensor] = []
        self.written = 0
        with writing(path):
            _create(path, time, grid, packing, self.times_per_file)
            self.group = zarr.open_group(path, mode="r+", use_consolidated=False)

    def record(self, batch: slice, step: int, predicted: Tensor) -> None:
        """See `Sink`."""
        assert batch == slice(0, 1), "one rollout"
        assert step == self.written + len(self.waiting) + 1, "steps in their order"
        self.waiting.append(predicted[0].cpu())
        if len(self.waiting) == self.times_per_file or step == self.n_steps:
            self._write()

    def _write(self) -> None:
        rows = torch.stack(self.waiting).numpy()
        times = slice(self.written, self.written + len(rows))
        with writing(self.path):
            for name, values in _fields(rows, self.packing):
                array: Any = self.group[name]
                array[times] = values
        self.written, self.waiting = times.stop, []
        if self.written == self.n_steps:
            seal(self.path, checksummed=["*/c/*"])


def to_dataset(rows: np.ndarray, time: np.ndarray, grid: Grid, packing: Packing) -> xr.Dataset:
    """Rows [time, prognostic cell] at times `time` [time] as fields with names, units and coordinates."""
    return _described(dict(_fields(rows, packing)), time, grid, packing)


def _create(path: Path, time: np.ndarray, grid: Grid, packing: Packing, times_per_file: int) -> None:
    """A store that holds all but the values."""
    levels, shape = len(_levels(packing)), (len(time), *grid.shape)
    empty = {
        name: da.empty((shape[0], levels, *shape[1:]) if field(name).has_levels else shape, chunks=-1, dtype="f4")
        for name in _names(packing)
    }
    described = _described(empty, time, grid, packing)
    encoding: dict[str, dict[str, Any]] = {
        name: {
            "chunks": (1, *values.shape[1:]),
            "shards": (times_per_file, *values.shape[1:]),
            "compressors": (ZstdCodec(), Crc32cCodec()),
        }
        for name, values in empty.items()
    }
    described.to_zarr(path, mode="w", zarr_format=3, compute=False, encoding=encoding)


def _described(values: dict[str, Any], time: np.ndarray, grid: Grid, packing: Packing) -> xr.Dataset:
    """Arrays of all fields, by name, with attributes and coordinates."""
    dataset = grid.to_dataset().isel(lev=_levels(packing)).assign_coords(time=("time", time))
    dataset["time"].attrs = {"standard_name": "time", "axis": "T"}
    dataset["time"].encoding = {"units": "days since 1900-01-01", "dtype": "float64"}
    for name, array in values.items():
        entry = field(name)
        attributes = {"standard_name": entry.standard_name, "long_name": entry.long_name, "units": entry.units}
        attributes |= {"cell_methods": "time: mean", "cell_measures": "area: areacello"}
        dimensions = ("time", "lev", "lat", "lon") if entry.has_levels else ("time", "lat", "lon")
        dataset[name] = (dimensions, array, attributes)
    dataset.attrs = {"Conventions": "CF-1.10", "title": "Free rollout of an ocean emulator"}
    return dataset


def _fields(rows: np.ndarray, packing: Packing) -> Iterator[tuple[str, np.ndarray]]:
    """Each field [time, lat, lon] or [time, lev, lat, lon], one after the other."""
    dense = packing.to_fields(rows)
    for name in _names(packing):
        if field(name).has_levels:
            yield name, np.stack([dense[f"{name}_{level}"] for level in _levels(packing)], axis=1)
        else:
            yield name, dense[name]


def _names(packing: Packing) -> list[str]:
    return list(dict.fromkeys(c.field.name for c in packing.prognostic))


def _levels(packing: Packing) -> list[int]:
    return sorted({c.level for c in packing.prognostic if c.level is not None})
