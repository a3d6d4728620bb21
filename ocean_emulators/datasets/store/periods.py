"""Digests of the prepared data by period: a small file for each, such as `periods/train.json`.

What reads one period depends on its file and not on the stores, which change with every period.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from ocean_emulators.datasets.config import Periods
from ocean_emulators.datasets.store.packed_store import open_store, store_path
from ocean_emulators.files import write_text

PERIODS = tuple(Periods.model_fields)
"""Names of the periods."""
_FOLDER = "periods"


def period_path(folder: Path, period: str) -> Path:
    """Where the digests of a period stand in the folder of the prepared data."""
    return folder / _FOLDER / f"{period}.json"


def write_period_digests(folder: Path, periods: Periods, grids: Sequence[str]) -> None:
    """Write {grid: digest} for each period: of its rows and of what describes them, and of nothing else."""
    stores = {grid: open_store(store_path(folder, grid)) for grid in grids}
    shutil.rmtree(folder / _FOLDER, ignore_errors=True)  # what an earlier attempt left
    for name in PERIODS:
        digests = {grid: store.digest(store.indices(getattr(periods, name), name)) for grid, store in stores.items()}
        write_text(period_path(folder, name), json.dumps(digests, indent=1) + "\n")
