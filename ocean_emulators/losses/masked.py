"""Errors of cells, and their mean over the wet ones of each channel."""

from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import huber_loss

from ocean_emulators.losses.grid import LossGrid

Metric = Literal["mse", "mae", "huber"]
POWER = {"mse": 2, "mae": 1}
"""What power of its unit an error has, by its metric."""


def cell_weights(grid: LossGrid, area_weighted: bool, normalised_by: Literal["wet", "all"]) -> Tensor:
    """What the error of a cell counts in the mean of its channel, [channel, lat, lon], 0 on land.

    The weights add up to 1 over wet cells, or would do so over all cells if land had its own.
    """
    wet = grid.wet_area if area_weighted else grid.ocean.mask.double()
    if normalised_by == "wet":
        return wet / wet.sum((-2, -1), keepdim=True)
    return wet / (grid.area.sum() if area_weighted else grid.area.numel())


class MaskedError(nn.Module):
    """Mean error of each channel.

    Parameters
    ----------
    metric: squared error e², absolute error |e|, or Huber's (1964, doi:10.1214/aoms/1177703732): e²/2, beyond the
        threshold d continued as the straight line d (|e| - d/2)
    threshold: of Huber's error, in units
    unit: [channel], what errors are divided by
    cells: [channel, lat, lon], see `cell_weights`
    weight: [channel], a factor
    """

    weight: Tensor
    inverse_unit: Tensor

    def __init__(self, metric: Metric, threshold: float, unit: Tensor, cells: Tensor, weight: Tensor) -> None:
        super().__init__()
        self.metric, self.threshold = metric, threshold
        # Where the unit can go into the weights, that saves a division for every cell of a batch.
        factor = weight / unit.double() ** POWER.get(metric, 0)
        self.register_buffer("weight", (factor[:, None, None] * cells).float(), persistent=False)
        self.register_buffer("inverse_unit", 1 / unit[:, None, None], persistent=False)

    def forward(self, predicted: Tensor, truth: Tensor) -> Tensor:
        """[..., channel, lat, lon] twice -> [..., channel]"""
        return (self._of_cells(predicted - truth) * self.weight).sum((-2, -1))

    def _of_cells(self, error: Tensor) -> Tensor:
        if self.metric == "mse":
            return error.square()
        if self.metric == "mae":
            return error.abs()
        return huber_loss(error * self.inverse_unit, error.new_zeros(()).expand_as(error), "none", self.threshold)
