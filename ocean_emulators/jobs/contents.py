"""What tells the content of what a job reads."""

from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.statistics.stored import read_statistics
from ocean_emulators.datasets.store.packed_store import store_path
from ocean_emulators.datasets.store.periods import period_path
from ocean_emulators.files import sha256
from ocean_emulators.workspace import Workspace


def contents(workspace: Workspace, data: DataConfig, *periods: str) -> list[str]:
    """What tells the content of some periods of the prepared data, and of their statistics."""
    digests = [sha256(period_path(workspace.prepared, name)) for name in periods]
    return digests + [read_statistics(store_path(workspace.statistics, grid)).fingerprint for grid in data.grids]
