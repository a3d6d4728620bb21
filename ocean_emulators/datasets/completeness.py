"""Finds chunks that a store has lost.

Zarr reads a chunk that is not there as the fill value, without a word: a download that broke off, or a deleted object,
becomes an ocean of zeros. A writer may also leave a chunk out because it holds nothing else, as where there is only land;
but then it is left out at every time.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr

from ocean_emulators.datasets.location import Location, access_errors
from ocean_emulators.errors import UserError


def require_whole(location: Location, fields: Sequence[str], span: slice) -> None:
    """Refuse a store in which chunks of some fields, by name, are there at some of the times `span` and not at others.

    Stores that can't be listed (HTTP) pass.

    Raises
    ------
    UserError
        Naming the variable, the chunk and its times.
    """
    of_a_field = re.compile(rf"({'|'.join(map(re.escape, fields))})(_\d+|_lev_\d+(_\d+)?)?")
    with access_errors(location):
        group = zarr.open_group(location.open(), mode="r")
        for name, array in group.arrays():
            keys = location.keys(name) if of_a_field.fullmatch(name) and array.ndim >= 3 else None
            lost = None if keys is None else _first_lost(array, set(keys), span)
            if lost is not None:
                key, first, last = lost
                raise UserError(
                    f"{location.name}: {name} has no chunk {key} (times {first} to {last}), which it has at other times: "
                    "the store is not whole; copy it again, or choose periods without these times"
                )


def _first_lost(array: zarr.Array[Any], held: set[str], span: slice) -> tuple[str, int, int] | None:
    """Key, first and last time of the first chunk that is absent while its neighbours in time are not."""
    chunks = array.shards or array.chunks
    grid = [-(-n // c) for n, c in zip(array.shape, chunks, strict=True)]
    rows = range(span.start // chunks[0], -(-span.stop // chunks[0]))
    encode = array.metadata.encode_chunk_key
    places = list(np.ndindex(*grid[1:]))
    there = np.array([[encode((row, *place)) in held for place in places] for row in rows])
    lost = np.argwhere(~there & there.any(0))
    if not len(lost):
        return None
    row, place = rows[lost[0][0]], places[lost[0][1]]
    return encode((row, *place)), row * chunks[0], min((row + 1) * chunks[0], array.shape[0]) - 1
