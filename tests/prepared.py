"""Small preparations, for tests of what may happen to them."""

from pathlib import Path
from typing import Any

from ocean_emulators.config import parse
from ocean_emulators.datasets.config import DataConfig
from tests import tiny

SMALL: dict[str, Any] = {"coarsen": [1, 2], "prognostic": ["zos"], "forcing": ["hfds", "hfds_anomalies"]}


def small(source: Path, **changes: Any) -> DataConfig:
    """Two fields on one level, two resolutions, and anomalies that are derived."""
    return parse(DataConfig, {**tiny.experiment(source)["data"], **SMALL, **changes}, "tiny")


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
