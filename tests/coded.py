"""A coded ocean (see `ocean_emulators/testing/coded_ocean.py`) of a few cells and times, and a preparation of it."""

from pathlib import Path

from ocean_emulators.config.base import parse
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.testing.coded_ocean import Layout

SHAPE = 6, 12
TIMES = 6
LAYOUTS: tuple[Layout, ...] = ("current", "older", "legacy", "compact")
PERIODS = {
    "train": {"start": "1958-01-03", "end": "1958-01-11"},
    "validation": {"start": "1958-01-12", "end": "1958-01-21"},
    "test": {"start": "1958-01-22", "end": "1958-12-31"},
}


def config(source: Path, levels: list[int], forcing: list[str]) -> DataConfig:
    tree = {
        "source": str(source),
        "prognostic": ["uo", "vo", "thetao", "so", "zos"],
        "forcing": forcing,
        "levels": levels,
        "periods": PERIODS,
    }
    return parse(DataConfig, tree, "synthetic")
