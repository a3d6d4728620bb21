"""What is prepared of one grid: store, statistics and packing, under one name."""

from dataclasses import dataclass, replace
from typing import Self

import torch
import xarray as xr

from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.statistics.stored import Statistics, read_statistics
from ocean_emulators.datasets.store.packed_store import PackedStore, open_store, store_path
from ocean_emulators.workspace import Workspace


@dataclass(frozen=True)
class PreparedGrid:
    """The prepared data of one grid and what follows from them."""

    name: str
    """`x1`, `x2`: its only identity"""
    store: PackedStore
    statistics: Statistics
    packing: Packing
    fingerprint: str
    """of the statistics of the experiment's first grid, whichever this one is: one for all stages of an experiment"""

    @classmethod
    def open(cls, workspace: Workspace, data: DataConfig, name: str, device: torch.device | None = None) -> Self:
        """Open a prepared grid, with its statistics.

        Means and standard deviations are those of the first grid of `data.coarsen`: what a model has learned on one grid
        must mean the same on another.

        Raises
        ------
        UserError
            If it was not prepared, or is damaged.
        """
        store = open_store(store_path(workspace.prepared, name))
        statistics, first = (read_statistics(store_path(workspace.statistics, n)) for n in (name, data.grids[0]))
        return cls.of(name, store, statistics, first, device)

    @classmethod
    def of(
        cls,
        name: str,
        store: PackedStore,
        statistics: Statistics,
        first: Statistics | None = None,
        device: torch.device | None = None,
    ) -> Self:
        """A grid's store and statistics; `first` are those of the grid that all are normalised by, if it is another."""
        first = first or statistics
        statistics = replace(statistics, mean=first.mean, std=first.std, change_std=first.change_std)
        packing = Packing.of(store, statistics).to(device or torch.device("cpu"))
        return cls(name, store, statistics, packing, first.fingerprint)

    def prognostic_std(self) -> xr.DataArray:
        """Standard deviation of each prognostic channel, [channel], with the channels' names."""
        names = [c.name for c in self.store.prognostic]
        return xr.DataArray(self.statistics.std[: len(names)], dims="channel", coords={"channel": names})
