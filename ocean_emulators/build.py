"""Opens and writes what several stages share."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import xarray as xr
from matplotlib.figure import Figure

from ocean_emulators import workspace as paths
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.statistics.stored import Statistics, read_statistics
from ocean_emulators.datasets.store.packed_store import PackedStore, open_store
from ocean_emulators.experiment import Experiment
from ocean_emulators.tracking.provenance import Provenance


@dataclass(frozen=True)
class Ocean:
    """The prepared data of an experiment and what follows from them."""

    store: PackedStore
    statistics: Statistics
    packing: Packing
    fingerprint: str
    """of the first resolution's statistics, whichever is opened: one for all stages of an experiment"""

    def provenance(self, experiment: Experiment) -> Provenance:
        """Identity of an experiment on these data."""
        return Provenance(experiment.dump(), self.fingerprint)

    def prognostic_std(self) -> xr.DataArray:
        """[channel], with the channels' names."""
        names = [c.name for c in self.store.prognostic]
        return xr.DataArray(self.statistics.std[: len(names)], dims="channel", coords={"channel": names})


def open_ocean(data: DataConfig, device: torch.device, factor: int) -> Ocean:
    """Open the prepared store of a resolution, with its statistics.

    Means and standard deviations are those of the first resolution of `data.coarsen`: what a model has learnt on one
    resolution must mean the same on another.
    """
    store, statistics = open_store(paths.prepared(factor)), read_statistics(paths.statistics(factor))
    first = statistics if factor == data.coarsen[0] else read_statistics(paths.statistics(data.coarsen[0]))
    statistics = replace(statistics, mean=first.mean, std=first.std, change_std=first.change_std)
    packing = Packing.of(store, statistics).to(device)
    return Ocean(store, statistics, packing, first.fingerprint)


def save_figure(figure: Figure, folder: Path, name: str) -> Path:
    """As PNG, without what would make two equal figures differ."""
    path = folder / paths.FIGURES / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    return path
