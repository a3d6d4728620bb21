"""Prepared oceans with their statistics, as a training finds them."""

from pathlib import Path
from typing import Any

from data import data_config
from ocean_emulators.config.base import parse
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.statistics.compute import compute_statistics
from ocean_emulators.datasets.statistics.writing import write_statistics
from ocean_emulators.datasets.store.packed_store import open_store, store_path
from ocean_emulators.testing.coded_ocean import write_om4
from ocean_emulators.train.config import TrainSections
from ocean_emulators.workspace import Workspace

ROOT = Path(__file__).parents[1]
SAMUDRA_2 = ROOT / "configs" / "model" / "samudra_om4_v2.yaml"


def om4_workspace(root: Path, shape: tuple[int, int], times: int, held_out: int) -> Workspace:
    """An OM4-shaped ocean with all levels, prepared in a folder of its own."""
    workspace = Workspace(root, root)
    root.mkdir(parents=True)
    write_om4(root / "om4.zarr", shape, times)
    prepare_all(data_config(root / "om4.zarr", times, held_out=held_out), workspace)
    return workspace


def prepare_all(data: DataConfig, workspace: Workspace) -> None:
    """All grids, and their statistics."""
    prepare(data, workspace.prepared)
    for grid in data.grids:
        store = open_store(store_path(workspace.prepared, grid))
        statistics = compute_statistics(store, data.periods.train, data.statistics)
        write_statistics(statistics, store_path(workspace.statistics, grid))


def om4_training(
    workspace: Workspace, times: int, held_out: int, model: dict[str, Any], train: dict[str, Any]
) -> TrainSections:
    """A training of Samudra 2, changed by `model`, on `om4_workspace` of the same numbers."""
    data = data_config(workspace.root / "om4.zarr", times, held_out=held_out)
    preset: Any = load_yaml(SAMUDRA_2)
    usual = {"epochs": 1, "batch_size": 1, "rollout_steps": [1], "learning_rate": 6e-4, "optimizer": "adam"}
    tree = {"data": data.dump(), "model": preset | model, "train": usual | train}
    return parse(TrainSections, tree, "benchmark")
