"""Hashes of the files that a job reads: its scratch folder is named by them."""

from pathlib import Path

from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.statistics.stored import read_statistics
from ocean_emulators.datasets.store.packed_store import store_path
from ocean_emulators.datasets.store.periods import period_path
from ocean_emulators.errors import UserError
from ocean_emulators.files import sha256
from ocean_emulators.workspace import Workspace


def contents(workspace: Workspace, data: DataConfig, *periods: str) -> list[str]:
    """Hashes of some periods of the prepared data, and of the statistics of each grid.

    Raises
    ------
    UserError
        If a file is missing, or the statistics are damaged.
    """
    digests = [content_of(period_path(workspace.prepared, name), "prepare") for name in periods]
    return digests + [read_statistics(store_path(workspace.statistics, grid)).fingerprint for grid in data.grids]


def content_of(path: Path, stage: str) -> str:
    """Hash of a file that a stage makes.

    Raises
    ------
    UserError
        If there is none.
    """
    if not path.is_file():
        raise UserError(f"{path}: not here; `dvc repro {stage}` makes it")
    return sha256(path)
