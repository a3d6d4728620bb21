"""Validation of the averaged weights: losses, metrics of one step by field, error by lead, and maps.

Names, and those of the published system (github.com/m2lines/Samudra); of losses see `losses.py`:

| here | published |
|---|---|
| `val/reduced/{weighted_rmse,weighted_bias,weighted_grad_mag_percent_diff}/thetao_3` | the same |
| the same of `ocean_heat_content`, J m-2 | the same |
| `val/rmse/step2` | - |
| `get_maps`: `truth`, `prediction`, `error`, `increment` | `val/snapshot/image-{full-field,error,residual}` |
| `get_maps`: `mean_truth`, `mean_prediction`, `mean_error` | `val/mean_map/image-{full-field,error}` |

Reduced metrics have the published formulas, in the units of the field. They differ in this: cells are weighed by their wet
area, as all our scores, instead of the cosine of latitude; they are means over windows, whatever the sizes of the batches;
and where a model predicts several states at once, they are of the first, for all models one step ahead, not of the last.
"""

from collections.abc import Mapping

import xarray as xr

from ocean_emulators.aggregator.losses import LossMeans
from ocean_emulators.aggregator.maps import Maps
from ocean_emulators.aggregator.one_step import OneStepScores
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.distributed import ALONE, Ranks
from ocean_emulators.stepper import BatchOutput


class ValidateAggregator:
    """What a validation says of a model, on each grid, named as losses are."""

    def __init__(self, grids: Mapping[str, PreparedGrid], steps: int, ranks: Ranks = ALONE) -> None:
        """`steps` is the number of states that windows predict."""
        first = next(iter(grids.values()))
        self.losses = LossMeans("val", first.store.prognostic, list(grids), first.packing.device, ranks)
        self.scores = {name: OneStepScores(grid, steps, ranks) for name, grid in grids.items()}
        self.maps = {name: Maps(grid, ranks) for name, grid in grids.items()}

    @property
    def log_names(self) -> list[str]:
        """The names in the logs; it asks no other rank."""
        return [*self.losses.log_names, *(name for grid in self.scores for name in self._score_names(grid))]

    def reset(self) -> None:
        """Begin a validation."""
        self.losses.sums.reset()
        for scores in self.scores.values():
            scores.sums.reset()
        for maps in self.maps.values():
            maps.reset()

    def record_batch(self, output: BatchOutput) -> None:
        """Add a batch of `validate_batch`, on this rank."""
        assert output.fields is not None, "of validate_batch"
        self.losses.record_batch(output)
        self.scores[output.grid].record(output.fields)
        self.maps[output.grid].record(output.fields)

    def get_logs(self) -> dict[str, float]:
        """The means over all ranks' windows, which must ask for them together; NaN on a grid without windows."""
        logs = self.losses.get_logs()
        for grid, scores in self.scores.items():
            logs |= dict(zip(self._score_names(grid), scores.values(), strict=True))
        return logs

    def _score_names(self, grid: str) -> list[str]:
        return [f"{self.losses.labels[grid]}/{name}" for name in self.scores[grid].names]

    def get_maps(self) -> dict[str, xr.Dataset]:
        """By the name of the grid, see `Maps.to_dataset`; all ranks must ask for them together."""
        return {name: maps.to_dataset() for name, maps in self.maps.items()}
