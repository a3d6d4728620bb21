"""The packed training store: the wet cells of all channels, one row per time.

A Zarr (version 3) group with `rows [time, cell]`; one time per chunk, so that any window is read without waste, and many
times per file, so that versioning it is cheap. The cells of a row are those of the prognostic channels, then of the forcing
channels, each channel's wet cells in row-major order of (lat, lon). Values are physical as float32, or
(value - offset) / scale of their channel as float16 or bfloat16 (bit patterns). Beside the rows stand
`mask [channel, lat, lon]`, the grid, and the times in the model's calendar.

Nothing damaged is read: each row has a checksum (`shards.py`), and `manifest.json` names every file of the store with its
size, the small ones with their hash, the whole with a hash of its own.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
import zarr
from torch import Tensor
from zarr.codecs import Crc32cCodec

from ocean_emulators.config.base import digest
from ocean_emulators.datasets.config import Period
from ocean_emulators.datasets.store.encoding import Scaling, Storage
from ocean_emulators.datasets.store.shards import Shards, damaged
from ocean_emulators.errors import UserError
from ocean_emulators.files import fsync
from ocean_emulators.ocean import calendar
from ocean_emulators.ocean.fields import Channel, channel
from ocean_emulators.ocean.grid import Grid

_MANIFEST = "manifest.json"
_MAX_FILES = 200
_MIN_FILE_BYTES, _MAX_FILE_BYTES = 64 * 2**20, 2**30


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
    if not (path / "zarr.json").is_file():
        raise UserError(f"{path}: no prepared store here; `dvc repro prepare` makes it")
    manifest = _check_manifest(path)
    times = xr.coders.CFDatetimeCoder(use_cftime=True)
    described = xr.open_zarr(path, chunks=None, decode_times=times, drop_variables="rows").load()
    prognostic, forcing = (tuple(map(channel, described.attrs[role])) for role in ("prognostic", "forcing"))
    scaling = Scaling(described.attrs["storage"], described["offset"].values, described["scale"].values)
    mask = described["mask"].values.astype(bool)
    n_times, n_cells = described.sizes["time"], int(mask.sum())
    return PackedStore(
        path=path,
        shards=Shards(path / "rows", n_times, n_cells, manifest["times_per_file"], scaling.written),
        scaling=scaling,
        prognostic=prognostic,
        forcing=forcing,
        grid=Grid.from_dataset(described),
        mask=mask,
        time=described["time"].values,
        row_hashes=described["row_sha256"].values,
    )


def create_store(
    path: Path,
    prognostic: tuple[Channel, ...],
    forcing: tuple[Channel, ...],
    mask: xr.DataArray,
    time: xr.DataArray,
    grid: Grid,
    scaling: Scaling,
    in_file: int | None = None,
) -> int:
    """Make an empty store, to be filled file by file and then sealed; returns how many times a file holds.

    That is what makes files of a good size, if `in_file` does not say.
    """
    _encoding.cache_clear()  # there may have been another store in this place
    described = grid.to_dataset().assign(
        mask=(("channel", "lat", "lon"), mask.values),
        offset=("channel", scaling.offset),
        scale=("channel", scaling.scale),
    )
    described = described.assign_coords(time=time)
    described.attrs = {
        "title": "Wet cells of an ocean model's output, packed for training",
        "Conventions": "CF-1.10",
        "prognostic": [c.name for c in prognostic],
        "forcing": [c.name for c in forcing],
        "storage": scaling.storage,
    }
    described["time"].encoding = {"units": "days since 1900-01-01", "dtype": "float64"}
    described.to_zarr(path, mode="w", zarr_format=3, consolidated=False)
    n_times, n_cells = len(time), int(mask.sum())
    in_file = in_file or times_per_file(n_times, n_cells * scaling.written.itemsize)
    zarr.open_group(path, mode="a").create_array(
        "rows",
        shape=(n_times, n_cells),
        chunks=(1, n_cells),
        shards=(in_file, n_cells),
        dtype=scaling.written.name,
        compressors=Crc32cCodec(),
        # No row is ever equal to it: rows that are, Zarr leaves out.
        fill_value=-1 if scaling.storage == "bfloat16" else "NaN",
        dimension_names=("time", "cell"),
    )
    return in_file


class Written(NamedTuple):
    """What became of rows that were written."""

    file: Path
    squared_error: np.ndarray
    """[channel], of storing: sums over times of means over cells, in units of the channel's scale"""


def write_rows(path: Path, start: int, rows: np.ndarray) -> Written:
    """Write one file's rows [time, cell], physical units, into an unsealed store, and have them on the disk."""
    scaling, counts, shards = _encoding(path)
    encoded = scaling.encode(rows, counts)
    file = shards.write(start // shards.times_per_file, encoded)
    fsync(file.parent)
    error = np.zeros(len(counts))
    if scaling.storage != "float32":
        off = (scaling.decode(scaling.as_stored(encoded), counts) - rows).astype("f8") / np.repeat(
            scaling.scale, counts
        )
        error = np.add.reduceat((off**2).sum(0), np.cumsum(counts) - counts) / counts
    return Written(file, error)


@lru_cache(maxsize=16)
def _encoding(path: Path) -> tuple[Scaling, np.ndarray, Shards]:
    """How an unsealed store is written: its values, the number of cells of each channel, its files."""
    group: Any = zarr.open_group(path, mode="r")
    scaling = Scaling(group.attrs["storage"], group["offset"][:], group["scale"][:])
    rows = group["rows"]
    n_times, n_cells = rows.shape
    shards = Shards(path / "rows", n_times, n_cells, rows.shards[0], rows.dtype)
    return scaling, group["mask"][:].sum((1, 2)), shards


def state_error(path: Path, storage: Storage, error: np.ndarray) -> str:
    """Keep the root mean square error of storing, [channel] in standard deviations, in an unsealed store; and say it."""
    group = zarr.open_group(path, mode="a")
    names = [*group.attrs["prognostic"], *group.attrs["forcing"]]  # type: ignore[misc]
    group.attrs["storage_error"] = dict(zip(names, error.tolist(), strict=True))
    worst = int(error.argmax())
    return f"{path.name}: stored as {storage}, off by {error[worst]:.1e} standard deviations at most ({names[worst]})"


def seal_store(path: Path, row_hashes: np.ndarray) -> None:
    """Keep the hash of each row [time, 32], consolidate the metadata, write the manifest: the store is complete."""
    zarr.open_group(path, mode="a").create_array(
        "row_sha256", data=row_hashes, dimension_names=("time", "byte"), overwrite=True
    )
    zarr.consolidate_metadata(str(path))
    times_per_file = zarr.open_array(path / "rows", mode="r").shards[0]  # type: ignore[index]
    manifest = {"times_per_file": times_per_file, "files": _list_files(path)}
    (path / _MANIFEST).write_text(json.dumps({"sha256": digest(manifest), **manifest}, indent=1) + "\n")


def _list_files(path: Path) -> dict[str, Any]:
    """Size of every file, and the hash of those that have no checksums inside."""
    files = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != _MANIFEST):
        name = file.relative_to(path).as_posix()
        checked = name.startswith("rows/c/")
        files[name] = [file.stat().st_size, None if checked else hashlib.sha256(file.read_bytes()).hexdigest()]
    return files


def _check_manifest(path: Path) -> dict[str, Any]:
    file = path / _MANIFEST
    if not file.is_file():
        raise UserError(f"{path}: not a whole store: {_MANIFEST} is missing; `dvc repro prepare` makes it anew")
    try:
        manifest: dict[str, Any] = json.loads(file.read_text())
        sealed = manifest.pop("sha256")
    except (ValueError, KeyError, AttributeError) as error:
        raise damaged(file, "can't be read") from error
    if sealed != digest(manifest):
        raise damaged(file, "it contradicts its own hash")
    found = _list_files(path)
    for name, expected in manifest["files"].items():
        if found.get(name) != expected:
            raise damaged(path / name, "gone" if name not in found else "not what was written")
    return manifest


def times_per_file(n_times: int, row_bytes: int) -> int:
    """Few files, because DVC looks at each; but none that a preparation could hardly hold in memory."""
    least, most = (max(1, size // row_bytes) for size in (_MIN_FILE_BYTES, _MAX_FILE_BYTES))
    return min(n_times, most, max(least, -(-n_times // _MAX_FILES)))
