"""What tells the content of one period of the prepared data from another: a small file for each, `periods/train.json`.

What reads one period alone depends on its file, and not on the stores: these change with every period.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from ocean_emulators.datasets.config import Periods
from ocean_emulators.datasets.store.packed_store import open_store, store_path
from ocean_emulators.errors import UserError
from ocean_emulators.files import write_text

PERIODS = tuple(Periods.model_fields)
"""Names of the periods."""
_FOLDER = "periods"


def period_path(folder: Path, period: str) -> Path:
    """Where the digests of a period stand in the folder of the prepared data."""
    return folder / _FOLDER / f"{period}.json"


def write_period_digests(folder: Path, periods: Periods, grids: Sequence[str]) -> None:
    """Write the digest of each period on each grid: of its rows and of what they mean, and of nothing else."""
    stores = {grid: open_store(store_path(folder, grid)) for grid in grids}
    shutil.rmtree(folder / _FOLDER, ignore_errors=True)  # what an earlier attempt left
    for name in PERIODS:
        digests = {grid: store.digest(store.indices(getattr(periods, name), name)) for grid, store in stores.items()}
        write_text(period_path(folder, name), json.dumps(digests, indent=1) + "\n")


def read_period_digests(folder: Path) -> dict[str, dict[str, str]]:
    """{period: {grid: digest}} of prepared data.

    Raises
    ------
    UserError
        If there are none, or they can't be read.
    """
    return {name: _read(period_path(folder, name)) for name in PERIODS}


def _read(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro prepare` makes it")
    try:
        digests = json.loads(path.read_text())
        assert all(isinstance(part, str) for part in (*digests, *digests.values()))
    except (ValueError, AttributeError, AssertionError) as error:
        raise UserError(f"{path}: damaged; `dvc checkout --force` brings it back") from error
    return dict(digests)
