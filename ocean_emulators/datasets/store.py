"""The packed training store: the wet cells of all channels, one row per time.

A Zarr (version 3) group with `rows [time, cell]`, physical units, float32; one time per chunk, so that any window is read
without waste, and many times per file, so that versioning it is cheap. The cells of a row are those of the prognostic
channels, then of the forcing channels, each channel's wet cells in row-major order of (lat, lon). Beside it stand
`mask [channel, lat, lon]`, the grid, and the times in the model's calendar.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec

from ocean_emulators.datasets.config import Period
from ocean_emulators.errors import UserError
from ocean_emulators.ocean import calendar
from ocean_emulators.ocean.fields import Channel, channel
from ocean_emulators.ocean.grid import Grid

_MAX_FILES = 200
_MIN_SHARD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class PackedStore:
    """A prepared store, opened for reading."""

    path: Path
    group: zarr.Group
    prognostic: tuple[Channel, ...]
    forcing: tuple[Channel, ...]
    grid: Grid
    mask: np.ndarray
    """[channel, lat, lon], bool; prognostic channels first"""
    time: np.ndarray
    """[time], cftime in the model's calendar"""
    fingerprint: str
    """SHA-256 of all content"""

    @property
    def channels(self) -> tuple[Channel, ...]:
        """All channels in the order of their cells."""
        return self.prognostic + self.forcing

    @property
    def cells_per_channel(self) -> np.ndarray:
        """Number of wet cells, [channel]."""
        counts: np.ndarray = self.mask.sum((1, 2))
        return counts

    @cached_property
    def step_days(self) -> float:
        """Time step, days."""
        return calendar.step_days(self.time)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """The rows of times `start` to `stop - 1`, [time, cell], physical units."""
        return np.asarray(self.group["rows"][start:stop])  # type: ignore[index]

    def indices(self, period: Period, what: str) -> range:
        """The times that lie in a period.

        Raises
        ------
        UserError
            If there are none, naming the period (`what`) and what the store holds.
        """
        inside = np.flatnonzero(calendar.within(self.time, period.start, period.end))
        if not len(inside):
            raise UserError(
                f"data.periods.{what}: {period.start} to {period.end} holds none of the times of the store, "
                f"{self.time[0]} to {self.time[-1]}"
            )
        return range(int(inside[0]), int(inside[-1]) + 1)


def open_store(path: Path | str) -> PackedStore:
    """Open a prepared store.

    Raises
    ------
    UserError
        If there is none at `path`.
    """
    path = Path(path)
    if not (path / "zarr.json").is_file():
        raise UserError(f"{path}: no prepared store here; `dvc repro prepare` makes it")
    group = zarr.open_group(path, mode="r")
    described = xr.open_zarr(path, chunks=None, decode_times=xr.coders.CFDatetimeCoder(use_cftime=True))
    prognostic, forcing = (tuple(map(channel, described.attrs[role])) for role in ("prognostic", "forcing"))
    return PackedStore(
        path=path,
        group=group,
        prognostic=prognostic,
        forcing=forcing,
        grid=Grid.from_dataset(described),
        mask=described["mask"].values.astype(bool),
        time=described["time"].values,
        fingerprint=described.attrs["fingerprint"],
    )


def create_store(
    path: Path,
    prognostic: tuple[Channel, ...],
    forcing: tuple[Channel, ...],
    mask: xr.DataArray,
    time: xr.DataArray,
    grid: Grid,
    times_per_file: int | None = None,
) -> zarr.Array[Any]:
    """Make an empty store and return its `rows` array, to be filled shard by shard and then sealed.

    A file holds as many times as makes files of a good size, if `times_per_file` does not say.
    """
    described = grid.to_dataset().assign(mask=(("channel", "lat", "lon"), mask.values)).assign_coords(time=time)
    described.attrs = {
        "title": "Wet cells of an ocean model's output, packed for training",
        "Conventions": "CF-1.10",
        "prognostic": [c.name for c in prognostic],
        "forcing": [c.name for c in forcing],
    }
    described["time"].encoding = {"units": "days since 1900-01-01", "dtype": "float64"}
    described.to_zarr(path, mode="w", zarr_format=3, consolidated=False)
    n_times, n_cells = len(time), int(mask.sum())
    return zarr.open_group(path, mode="a").create_array(
        "rows",
        shape=(n_times, n_cells),
        chunks=(1, n_cells),
        shards=(times_per_file or _times_per_file(n_times, n_cells), n_cells),
        dtype="float32",
        compressors=BloscCodec(cname="lz4", shuffle="shuffle", typesize=4),
        dimension_names=("time", "cell"),
    )


def seal_store(path: Path, fingerprint: str) -> None:
    """Record the hash of the content and consolidate the metadata: the store is complete."""
    zarr.open_group(path, mode="a").attrs["fingerprint"] = fingerprint
    zarr.consolidate_metadata(str(path))


def _times_per_file(n_times: int, n_cells: int) -> int:
    by_size = max(1, _MIN_SHARD_BYTES // (4 * n_cells))
    by_number = -(-n_times // _MAX_FILES)
    return min(n_times, max(by_size, by_number))
