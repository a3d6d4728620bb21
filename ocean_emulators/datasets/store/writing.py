"""Writes packed stores: the rows file by file, by many workers and in any order; what describes them, and the seal, last."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec

from ocean_emulators.datasets.store.encoding import Scaling
from ocean_emulators.datasets.store.shards import Shards, checksum
from ocean_emulators.errors import UserError
from ocean_emulators.files import remove_all_but, replacing, writing
from ocean_emulators.ocean.fields import Channel
from ocean_emulators.ocean.grid import Grid
from ocean_emulators.sealing import seal

_ABSENT = 2**64 - 1  # in the index of a file: no such row
_MAX_FILES = 200
_MIN_FILE_BYTES, _MAX_FILE_BYTES = 64 * 2**20, 2**30


def times_per_file(n_times: int, row_bytes: int) -> int:
    """Few files, because DVC looks at each; but none that a preparation could hardly hold in memory."""
    least, most = (max(1, size // row_bytes) for size in (_MIN_FILE_BYTES, _MAX_FILE_BYTES))
    return min(n_times, most, max(least, -(-n_times // _MAX_FILES)))


def write_file(shards: Shards, number: int, rows: np.ndarray) -> None:
    """Write a file with its rows [time, cell], all of them and as they are stored, and have it on the disk.

    Raises
    ------
    UserError
        If the disk is full, or nothing may be written there.
    """
    assert rows.shape == (len(shards.times(number)), shards.n_cells), rows.shape
    assert rows.dtype == shards.dtype, rows.dtype
    index = np.full((shards.times_per_file, 2), _ABSENT, "<u8")
    index[: len(rows), 0] = shards.row_bytes * np.arange(len(rows))
    index[: len(rows), 1] = shards.row_bytes
    with replacing(shards.file(number)) as file:
        for part in (*rows, index):
            part = np.ascontiguousarray(part)
            file.write(part.data)
            file.write(checksum(part))


def write_rows(
    shards: Shards, scaling: Scaling, cells_per_channel: np.ndarray, number: int, rows: np.ndarray
) -> np.ndarray:
    """Write a file's rows [time, cell], physical units, float32.

    Returns
    -------
    [channel], squared error of storing: sums over times of means over cells, in units of the channel's scale
    """
    encoded = scaling.encode(rows, cells_per_channel)
    write_file(shards, number, encoded)
    if scaling.storage == "float32":
        return np.zeros(len(cells_per_channel))
    decoded = scaling.decode(scaling.as_stored(encoded), cells_per_channel)
    off = (decoded - rows).astype("f8") / np.repeat(scaling.scale, cells_per_channel)
    first = np.cumsum(cells_per_channel) - cells_per_channel
    error: np.ndarray = np.add.reduceat((off**2).sum(0), first) / cells_per_channel
    return error


def describe_rows(group: Path, shards: Shards, dimensions: Sequence[str]) -> None:
    """Let Zarr know of rows in a group: the metadata of an array whose files are written by `write_file`."""
    zarr.open_group(group, mode="a").create_array(
        shards.folder.name,
        shape=(shards.n_times, shards.n_cells),
        chunks=(1, shards.n_cells),
        shards=(shards.times_per_file, shards.n_cells),
        dtype=shards.dtype.name,
        compressors=Crc32cCodec(),
        # No row is ever equal to it: rows that are, Zarr leaves out.
        fill_value=-1 if shards.dtype.kind == "i" else "NaN",
        dimension_names=dimensions,
    )


def finish_store(
    shards: Shards,
    scaling: Scaling,
    channels: Mapping[str, Sequence[Channel]],
    mask: np.ndarray,
    time: xr.DataArray,
    grid: Grid,
    row_hashes: np.ndarray,
    storage_error: np.ndarray,
) -> None:
    """Describe the rows of a store, all of which are written, and seal it: the store is complete.

    Parameters
    ----------
    channels: by role, `prognostic` and `forcing`
    mask: [channel, lat, lon], bool
    row_hashes: [time, 32], uint8, SHA-256 of each row before it was stored
    storage_error: [channel], root mean square error of storing, in units of the channel's scale

    Raises
    ------
    UserError
        If the disk is full, or nothing may be written there.
    """
    path = shards.folder.parent
    names = {role: [c.name for c in some] for role, some in channels.items()}
    described = grid.to_dataset().assign(
        mask=(("channel", "lat", "lon"), mask),
        offset=("channel", scaling.offset),
        scale=("channel", scaling.scale),
        row_sha256=(("time", "byte"), row_hashes),
    )
    described = described.assign_coords(time=time)
    described.attrs = {
        "title": "Wet cells of an ocean model's output, packed for training",
        "Conventions": "CF-1.10",
        **names,
        "storage": scaling.storage,
    }
    if scaling.storage != "float32":
        described.attrs["storage_error"] = dict(
            zip([*names["prognostic"], *names["forcing"]], storage_error.tolist(), strict=True)
        )
    described["time"].encoding = {"units": "days since 1900-01-01", "dtype": "float64"}
    with writing(path):
        _clear(shards)
        describe_rows(path, shards, ("time", "cell"))
        described.to_zarr(path, mode="a", zarr_format=3, consolidated=False)
        zarr.consolidate_metadata(str(path))
    seal(path, {"times_per_file": shards.times_per_file}, checksummed=["rows/c/*"])


def _clear(shards: Shards) -> None:
    """Remove all but the files with rows, which must be there: what an earlier attempt left."""
    wanted = [shards.file(number) for number in range(shards.n_files)]
    for path in wanted:
        if not path.is_file():
            raise UserError(f"{path}: something removed it while it was needed; run it again")
    remove_all_but(wanted, shards.folder.parent)
