"""Writes statistics, for `stored.py` to read."""

from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from ocean_emulators.datasets.statistics.stored import MOMENTS, Statistics, climatology_rows
from ocean_emulators.datasets.store.writing import describe_rows, write_file
from ocean_emulators.sealing import sealing

_BYTES_PER_FILE = 256 * 2**20


def write_statistics(statistics: Statistics, path: Path) -> None:
    """As one sealed Zarr store, in the place of another.

    Raises
    ------
    UserError
        If the disk is full, or nothing may be written there.
    """
    climatology = statistics.climatology
    assert isinstance(climatology, np.ndarray)
    small = xr.Dataset(
        {name: ("channel", getattr(statistics, name)) for name in MOMENTS},
        attrs={"names": list(statistics.names), "fingerprint": statistics.fingerprint},
    )
    n_bins, n_cells = climatology.shape
    in_file = max(1, min(n_bins, _BYTES_PER_FILE // (4 * n_cells)))
    about = {"n_bins": n_bins, "n_cells": n_cells, "bins_per_file": in_file}
    with sealing(path, about, checksummed=["climatology/c/*"]) as building:
        small.to_zarr(building, mode="w", zarr_format=3, consolidated=False)
        shards = climatology_rows(building, about)
        for number in range(shards.n_files):
            write_file(shards, number, climatology[shards.times(number)])
        describe_rows(building, shards, ("dayofyear_bin", "cell"))
        zarr.consolidate_metadata(str(building))
