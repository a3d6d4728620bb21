"""Normalisation statistics and the climatology as they are kept: what training and evaluation read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ocean_emulators.datasets.store.shards import Shards
from ocean_emulators.files import reading
from ocean_emulators.sealing import require_sealed

MOMENTS = ("mean", "std", "change_std")


@dataclass(frozen=True)
class Statistics:
    """Per channel (prognostic, then forcing), over wet cells and times, unweighted."""

    mean: np.ndarray
    """[channel], physical units"""
    std: np.ndarray
    """[channel], standard deviation in space and time"""
    change_std: np.ndarray
    """[channel], standard deviation in space and time of the change over one time step"""
    climatology: np.ndarray | Shards
    """[day-of-year bin, cell], mean over the years of the training period; float32. As large as a year of the data: what was
    written is read, and checked, when it is indexed by a bin and a slice of cells"""
    names: tuple[str, ...]
    """[channel]"""
    fingerprint: str
    """SHA-256 of what they were made from: the times read, and published numbers"""


def read_statistics(path: Path | str) -> Statistics:
    """What `write_statistics` wrote.

    Raises
    ------
    UserError
        If there is nothing at `path`, or it is not as it was written; so, too, when the climatology is read.
    """
    about = require_sealed(Path(path), "stats")
    with reading(Path(path)):
        group: Any = zarr.open_group(path, mode="r")
        moments = {name: group[name][:] for name in MOMENTS}
    return Statistics(
        **moments,
        climatology=climatology_rows(Path(path), about),
        names=tuple(group.attrs["names"]),
        fingerprint=group.attrs["fingerprint"],
    )


def climatology_rows(path: Path, about: dict[str, Any]) -> Shards:
    """The rows of a climatology, one for each day-of-year bin; `about` says how many, and how many to a file."""
    sizes = about["n_bins"], about["n_cells"], about["bins_per_file"]
    return Shards(path / "climatology", *sizes, np.dtype("f4"), "stats")
