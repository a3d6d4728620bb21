"""Metrics of a step ahead, by field, on one grid; and the error of each step of the rollout."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ocean_emulators.aggregator.accumulator import Accumulator
from ocean_emulators.aggregator.losses import mean
from ocean_emulators.aggregator.reduced import FieldMetrics
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.distributed import ALONE, Ranks
from ocean_emulators.ocean.diagnostics import HEAT_CONTENT, heat_per_degree
from ocean_emulators.stepper import Fields

# Windows are taken some at a time, by their number of values: on a CPU what its cache holds, three times as fast as all at
# once; elsewhere what keeps memory bounded whatever the batch.
_VALUES_AT_ONCE = {"cpu": 2**18, "else": 2**24}


@dataclass(frozen=True)
class Stack:
    """Fields that metrics are taken of."""

    names: list[str]
    units: np.ndarray
    """[field], what RMSE and bias are multiplied by to be physical"""
    metrics: FieldMetrics
    of: Callable[[Tensor], Tensor]
    """from states [window, channel, lat, lon], normalised, to the fields [window, field, lat, lon], finite on land"""


class OneStepScores:
    """Means over windows of `FieldMetrics` of the first predicted state, and of `rmse/step1`, `step2`, … of all.

    The latter is a mean over channels of the RMSE in units of the channel's standard deviation.
    """

    def __init__(self, grid: PreparedGrid, steps: int, ranks: Ranks = ALONE) -> None:
        """`steps` is the number of states that windows predict."""
        self.stacks = [channels_of(grid), *heat_content_of(grid)]
        shapes: dict[str, tuple[int, ...]] = {
            metric: (sum(len(stack.names) for stack in self.stacks),) for metric in FieldMetrics.NAMES
        }
        self.sums = Accumulator({**shapes, "step": (steps,), "windows": ()}, grid.packing.device, ranks)
        names = [name for stack in self.stacks for name in stack.names]
        self.names = [f"reduced/{metric}/{name}" for metric in FieldMetrics.NAMES for name in names]
        self.names += [f"rmse/step{step}" for step in range(1, steps + 1)]

    def record(self, fields: Fields) -> None:
        """Add windows."""
        values = _VALUES_AT_ONCE["cpu" if fields.truth.device.type == "cpu" else "else"]
        at_once = max(1, values // fields.initial.shape[1:].numel())
        for predicted, truth in zip(fields.predicted.split(at_once), fields.truth.split(at_once), strict=True):
            self._record(predicted.float(), truth.float())
        self.sums.add("windows", len(fields.truth))

    def _record(self, predicted: Tensor, truth: Tensor) -> None:
        pairs = [(stack.of(predicted[:, 0]), stack.of(truth[:, 0])) for stack in self.stacks]
        scores = [stack.metrics.of(*pair) for stack, pair in zip(self.stacks, pairs, strict=True)]
        for metric in FieldMetrics.NAMES:
            self.sums.add(metric, torch.cat([score[metric].double() for score in scores], 1).sum(0))
        steps = zip(predicted[:, 1:].unbind(1), truth[:, 1:].unbind(1), strict=True)
        rmse = [scores[0]["weighted_rmse"], *(self.stacks[0].metrics.rmse(p - t) for p, t in steps)]
        self.sums.add("step", torch.stack([of_step.double().mean(1).sum() for of_step in rmse]))

    def values(self) -> list[float]:
        """The means over all ranks' windows, in the order of `names`; NaN without windows."""
        totals = self.sums.totals()
        units = torch.as_tensor(np.concatenate([stack.units for stack in self.stacks]), dtype=torch.float64)
        for metric in FieldMetrics.IN_UNITS_OF_FIELD:
            totals[metric] *= units
        return [v for name in (*FieldMetrics.NAMES, "step") for v in mean(totals[name], totals["windows"])]


def channels_of(grid: PreparedGrid) -> Stack:
    """The prognostic channels of a grid, as they are."""
    channels = grid.store.prognostic
    units = grid.statistics.std[: len(channels)]
    return Stack([c.name for c in channels], units, FieldMetrics(_wet_area(grid)), lambda states: states)


def heat_content_of(grid: PreparedGrid) -> list[Stack]:
    """The heat content of columns, J m-2, if temperature has levels."""
    per_degree = heat_per_degree(grid.store.prognostic, grid.store.grid.thickness)
    if not per_degree:
        return []
    device, places = grid.packing.device, list(per_degree)
    # float64: the error of a column is a small part of its heat.
    heat, mean, std = (
        torch.as_tensor(values, dtype=torch.float64, device=device)[:, None, None]
        for values in (list(per_degree.values()), grid.statistics.mean[places], grid.statistics.std[places])
    )
    of_mean = (heat * mean * grid.packing.prognostic_mask[places]).sum(0)
    chosen = torch.tensor(places, device=device)

    def heat_content(states: Tensor) -> Tensor:
        return (heat * std * states.index_select(1, chosen).double()).sum(1, keepdim=True) + of_mean

    top = _wet_area(grid)[places[:1]]
    return [Stack([HEAT_CONTENT], np.ones(1), FieldMetrics(top), heat_content)]


def _wet_area(grid: PreparedGrid) -> Tensor:
    """[channel, lat, lon], zero on land"""
    area = np.stack([grid.store.grid.wet_area(c.mask_level) for c in grid.store.prognostic])
    return torch.as_tensor(area, device=grid.packing.device) * grid.packing.prognostic_mask
