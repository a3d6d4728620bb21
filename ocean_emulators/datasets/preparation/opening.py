"""A source as a process has it open while it prepares: looked at once, however often it is needed."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.preparation.coarsening import Resolution, resolutions
from ocean_emulators.datasets.preparation.reader import BlockReader
from ocean_emulators.datasets.preparation.work import WorkFolder
from ocean_emulators.datasets.source.anomalies import (
    bins_of,
    derived,
    mean_annual_cycle,
    mean_annual_cycle_bytes,
    reference_bins,
)
from ocean_emulators.datasets.source.completeness import require_whole
from ocean_emulators.datasets.source.layouts import open_source
from ocean_emulators.datasets.source.pinning import locate
from ocean_emulators.datasets.source.selection import select_from, span_of_periods
from ocean_emulators.ocean.fields import Channel


@dataclass(frozen=True, eq=False)
class OpenSource:
    """A source that has passed what is asked before any work."""

    config: DataConfig
    whole: xr.Dataset
    """all times"""
    selected: xr.Dataset
    """the times of the periods"""
    source: Resolution
    resolutions: tuple[Resolution, ...]
    """those wanted"""

    @classmethod
    def of(cls, config: DataConfig) -> "OpenSource":
        """Open what `data.source` names.

        Raises
        ------
        UserError
            If it lacks or contradicts what an experiment needs.
        """
        whole = open_source(config.source, keep_stacked=True)
        selected = select_from(whole, config)
        source, *wanted = resolutions(selected, config)
        return cls(config, whole, selected, source, tuple(wanted))

    @property
    def annual_cycle_bytes(self) -> int:
        """The memory that the mean annual cycle of a field takes, if one is needed."""
        return mean_annual_cycle_bytes(self.selected, self.config) if derived(self.config, self.selected) else 0

    def require_whole(self) -> None:
        """Refuse a source that has lost chunks of what is read."""
        config, time = self.config, self.whole["time"].values
        made = {c.name for c in derived(config, self.whole)}
        chosen = config.prognostic_channels + config.forcing_channels
        fields = [str(c.field.anomaly_of) if c.name in made else c.field.name for c in chosen]
        everything = bool(made) and config.anomaly_period == "all"
        span = slice(0, len(time)) if everything else span_of_periods(time, config)
        require_whole(locate(config.source), self.whole, fields, config.levels, span)

    def reader(self, work: WorkFolder) -> BlockReader:
        """What reads blocks of it; the mean annual cycles are kept in the work folder."""
        config = self.config
        return BlockReader(
            self.selected,
            config.prognostic_channels + config.forcing_channels,
            self.source,
            self.resolutions,
            bins_of(self.selected["time"].values, config)[0],
            {c.name: self._annual_cycle(c, work) for c in derived(config, self.selected)},
            f"data.source: {config.source}",
        )

    def _annual_cycle(self, channel: Channel, work: WorkFolder) -> np.ndarray:
        _, _, n_bins = reference_bins(self.whole["time"].values, channel, self.config)
        shape = (n_bins, *self.source.grid.shape)
        return work.kept(channel.name, shape, lambda: mean_annual_cycle(self.whole, channel, self.config))
