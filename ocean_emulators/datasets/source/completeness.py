"""Finds chunks that a store has lost.

Zarr reads a chunk that is not there as the fill value, without a word: a download that broke off, or a deleted object,
becomes an ocean of zeros. A writer may also leave a chunk out because it holds nothing else, as where there is only land;
but there it is left out at every time.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
import zarr

from ocean_emulators.datasets.source.location import Location, access_errors
from ocean_emulators.errors import UserError
from ocean_emulators.ocean.levels import level_of, split_depth, split_level


def require_whole(
    location: Location, dataset: xr.Dataset, fields: Sequence[str], levels: Sequence[int], span: slice
) -> None:
    """Refuse a store that lacks chunks of some fields, by name, on some levels at some of the times `span`.

    A chunk is lost if it is not there although the same place has one at another time, or has ocean. `dataset` is the store
    in canonical form, with its masks. Stores that can't be listed (HTTP) pass.

    Raises
    ------
    UserError
        Naming the variable, the chunk and its times.
    """
    with access_errors(location):
        group = zarr.open_group(location.open(), mode="r")
        for name, array in group.arrays():
            wet = _wet(name, array.shape, dataset, fields, levels)
            keys = None if wet is None else location.keys(name)
            if wet is None or keys is None:
                continue
            lost = _first_lost(array, set(keys), wet, span)
            if lost is not None:
                key, first, last = lost
                raise UserError(
                    f"{location.name}: {name} has no chunk {key} (times {first} to {last}), where there is ocean or at other "
                    "times a chunk: the store is not whole; copy it again, or choose periods without these times"
                )


def _wet(
    name: str, shape: tuple[int, ...], dataset: xr.Dataset, fields: Sequence[str], levels: Sequence[int]
) -> np.ndarray | None:
    """Where a variable of the store has ocean that is asked for, [lat, lon] or [lev, lat, lon]; None if nothing is."""
    if len(shape) == 4 and name in fields:
        wet = np.stack([dataset[f"mask_{k}"].values & (k in levels) for k in range(dataset.sizes["lev"])])
    elif len(shape) == 3:
        by_depth = split_depth(name)
        by_level = (by_depth[0], level_of(by_depth[1], dataset["lev"].values)) if by_depth else split_level(name)
        field, level = by_level or (name, 0)
        if field not in fields or level is None or (by_level and level not in levels):
            return None
        wet = dataset[f"mask_{level}"].values
    else:
        return None
    # Of dimensions in another order nothing is known but what other times say.
    return wet if wet.shape == shape[1:] else np.zeros(shape[1:], bool)


def _first_lost(array: zarr.Array[Any], held: set[str], wet: np.ndarray, span: slice) -> tuple[str, int, int] | None:
    """Key, first and last time of the first chunk that is lost."""
    chunks = array.shards or array.chunks
    grid = [-(-n // c) for n, c in zip(array.shape, chunks, strict=True)]
    rows = range(span.start // chunks[0], -(-span.stop // chunks[0]))
    encode = array.metadata.encode_chunk_key
    places = list(np.ndindex(*grid[1:]))
    there = np.array([[encode((row, *place)) in held for place in places] for row in rows])
    for axis, size in enumerate(chunks[1:]):
        wet = np.logical_or.reduceat(wet, range(0, wet.shape[axis], size), axis)
    lost = np.argwhere(~there & (there.any(0) | wet.ravel()))
    if not len(lost):
        return None
    row, place = rows[lost[0][0]], places[lost[0][1]]
    return encode((row, *place)), row * chunks[0], min((row + 1) * chunks[0], array.shape[0]) - 1
