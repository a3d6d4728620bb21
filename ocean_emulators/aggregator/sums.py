"""Weighted sums of predictions and truth: what every score is made of.

Sums are additive over starts, times and processes, and are kept by start, so that a new score, a mean over some starts or
an interval needs no new rollout.
"""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ocean_emulators.aggregator.statistics import STATISTICS, Sample
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.ocean.grid import Grid
from ocean_emulators.ocean.regions import Region


class WeightedSums:
    """Sums over the wet cells of regions, weighted by their wet area, for rows of prognostic cells.

    One product with a sparse matrix [region × channel, cell] does the sums of all regions, channels and statistics at once.
    """

    def __init__(self, packing: Packing, grid: Grid, regions: Sequence[Region]) -> None:
        self.regions, self.channels = tuple(regions), packing.prognostic
        device = packing.mask.device
        n_cells, n_channels = packing.n_prognostic_cells, len(self.channels)
        channel = packing.channel_of_cell[:n_cells]
        place = packing.wet_cell % (grid.area.size)
        levels = sorted({c.mask_level for c in self.channels})
        wet_area = torch.as_tensor(np.stack([grid.wet_area(k).reshape(-1) for k in levels]), device=device)
        row = torch.tensor([levels.index(c.mask_level) for c in self.channels], device=device)
        area = wet_area[row[channel], place]
        rows, columns = [], []
        for r, region in enumerate(self.regions):
            inside = torch.as_tensor(region.mask(grid).reshape(-1), device=device)[place]
            columns.append(inside.nonzero().flatten())
            rows.append(r * n_channels + channel[columns[-1]])
        column = torch.cat(columns)
        self.matrix = torch.sparse_coo_tensor(
            torch.stack([torch.cat(rows), column]),
            area[column],
            (len(self.regions) * n_channels, n_cells),
            check_invariants=True,
        ).coalesce()
        ones = torch.ones(n_cells, 1, dtype=torch.float64, device=device)
        self.weight = (self.matrix @ ones).reshape(len(self.regions), n_channels)
        """[region, channel], m2"""

    def of(self, predicted: Tensor, truth: Tensor, climatology: Tensor) -> Tensor:
        """Sums of all statistics for some starts at one step.

        Parameters
        ----------
        predicted, truth, climatology: [start, prognostic cell], physical units

        Returns
        -------
        [start, statistic, region, channel], float64
        """
        sample = Sample(predicted.double(), truth.double(), climatology.double())
        values = torch.stack([statistic(sample) for statistic in STATISTICS.values()], dim=1)
        sums = self.matrix @ values.flatten(0, 1).T
        return sums.T.reshape(*values.shape[:2], *self.weight.shape)


class SumsOfRollouts:
    """Collects the sums of rollouts over starts and steps."""

    def __init__(self, sums: WeightedSums, n_starts: int, steps: int) -> None:
        self.sums = sums
        self.values = np.full((n_starts, steps, len(STATISTICS), *sums.weight.shape), np.nan)

    def record(self, starts: slice, step: int, predicted: Tensor, truth: Tensor, climatology: Tensor) -> None:
        """Add step number `step` (from 1) of some starts; arguments as `WeightedSums.of`."""
        self.values[starts, step - 1] = self.sums.of(predicted, truth, climatology).cpu().numpy()

    def to_dataset(self, start_times: Sequence[object], step_days: float) -> xr.Dataset:
        """All sums, by start, lead, region and channel, with the weights that they were taken with."""
        assert np.isfinite(self.values).all()
        dims = ("start", "lead", "region", "channel")
        variables = {name: (dims, self.values[:, :, m]) for m, name in enumerate(STATISTICS)}
        weight = (dims[2:], self.sums.weight.cpu().numpy(), {"units": "m2"})
        return xr.Dataset(
            {**variables, "weight": weight},
            coords={
                "start": np.array([str(t) for t in start_times], dtype=object),
                # "unit", because xarray takes "units" of days for those of a timedelta.
                "lead": (
                    "lead",
                    step_days * np.arange(1, self.values.shape[1] + 1),
                    {"long_name": "lead", "unit": "days"},
                ),
                "region": np.array([r.name for r in self.sums.regions], dtype=object),
                "channel": np.array([c.name for c in self.sums.channels], dtype=object),
            },
        )
