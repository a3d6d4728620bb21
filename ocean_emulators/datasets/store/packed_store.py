"""The packed training store: the wet cells of all channels, one row per time.

A Zarr (version 3) group with `rows [time, cell]`; one time per chunk, so that any window is read without waste, and many
times per file, so that versioning it is cheap. The cells of a row are those of the prognostic channels, then of the forcing
channels, each channel's wet cells in row-major order of (lat, lon). Values are physical as float32, or
(value - offset) / scale of their channel as float16 or bfloat16 (bit patterns). Beside the rows stand
`mask [channel, lat, lon]`, the grid, and the times in the model's calendar.

Nothing damaged is read: each row has a checksum (`shards.py`), and the store is sealed (`sealing.py`). It is written by
`writing.py`.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray as xr
from torch import Tensor

from ocean_emulators.datasets.config import Period
from ocean_emulators.datasets.store.encoding import Scaling
from ocean_emulators.datasets.store.shards import Shards
from ocean_emulators.errors import UserError
from ocean_emulators.files import digest, reading
from ocean_emulators.ocean import calendar
from ocean_emulators.ocean.fields import Channel, channel
from ocean_emulators.ocean.grid import Grid
from ocean_emulators.sealing import require_sealed


@dataclass(frozen=True)
class PackedStore:
    """A prepared store, opened for reading."""

    path: Path
    shards: Shards
    scaling: Scaling
    prognostic: tuple[Channel, ...]
    forcing: tuple[Channel, ...]
    grid: Grid
    mask: np.ndarray
    """[channel, lat, lon], bool; prognostic channels first"""
    time: np.ndarray
    """[time], cftime in the model's calendar"""
    row_hashes: np.ndarray
    """[time, 32], uint8: SHA-256 of each row as it was before it was stored (float32, physical units)"""

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

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all content."""
        return self.digest(range(len(self.time)))

    def digest(self, times: range) -> str:
        """SHA-256 of what is read of some times: it stays as it is whatever else the store holds."""
        return digest(
            self._described, [str(self.time[i]) for i in times], [self.row_hashes[i].tobytes().hex() for i in times]
        )

    @cached_property
    def _described(self) -> str:
        """SHA-256 of what rows mean: channels, wet cells, grid, time step, storage."""
        grid, arrays = self.grid, [self.mask, self.scaling.offset, self.scaling.scale]
        coordinates = [values.tolist() for values in (grid.lat, grid.lon, grid.lev, grid.thickness)]
        arrays += [grid.area] if grid.ocean_fraction is None else [grid.area, grid.ocean_fraction]
        hashes = [hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest() for values in arrays]
        names = [[c.name for c in role] for role in (self.prognostic, self.forcing)]
        return digest(names, coordinates, hashes, self.step_days, self.scaling.storage)

    def stored(self, start: int, stop: int) -> list[Tensor]:
        """The rows of times `start` to `stop - 1` as they are stored, not to be written to.

        Without a copy, and so in pieces [time, cell], one for each file that they lie in.

        Raises
        ------
        UserError
            If a file of the store is damaged.
        """
        return [self.scaling.as_stored(piece) for piece in self.shards.read(start, stop)]

    def rows(self, start: int, stop: int) -> np.ndarray:
        """The rows of times `start` to `stop - 1`, [time, cell], physical units, float32.

        Raises
        ------
        UserError
            If a file of the store is damaged.
        """
        pieces = [self.scaling.decode(piece, self.cells_per_channel) for piece in self.stored(start, stop)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

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


def store_path(folder: Path, grid: str) -> Path:
    """Where what is prepared of a grid stands in a folder."""
    return folder / f"{grid}.zarr"


def open_store(path: Path | str) -> PackedStore:
    """Open a prepared store.

    Raises
    ------
    UserError
        If there is none at `path`, or one of its files is not as it was written.
    """
    path = Path(path)
    about = require_sealed(path, "prepare")
    times = xr.coders.CFDatetimeCoder(use_cftime=True)
    with reading(path):
        described = xr.open_zarr(path, chunks=None, decode_times=times, drop_variables="rows").load()
    prognostic, forcing = (tuple(map(channel, described.attrs[role])) for role in ("prognostic", "forcing"))
    scaling = Scaling(described.attrs["storage"], described["offset"].values, described["scale"].values)
    mask = described["mask"].values.astype(bool)
    n_times, n_cells = described.sizes["time"], int(mask.sum())
    return PackedStore(
        path=path,
        shards=Shards(path / "rows", n_times, n_cells, about["times_per_file"], scaling.written),
        scaling=scaling,
        prognostic=prognostic,
        forcing=forcing,
        grid=Grid.from_dataset(described),
        mask=mask,
        time=described["time"].values,
        row_hashes=described["row_sha256"].values,
    )
