"""Metrics of fields, reduced to a number for each field: the published ones, window by window."""

import torch
from torch import Tensor


def unit_sum(weight: Tensor) -> Tensor:
    """Weights [..., lat, lon] that sum to 1 over the cells of each field, float32."""
    return (weight / weight.sum((-2, -1), keepdim=True)).float()


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Means over cells, [...] of [..., lat, lon]; weights sum to 1.

    Not a matrix product, which a GPU may do with fewer digits.
    """
    return (values * weight).sum((-2, -1))


def gradient_magnitude(fields: Tensor) -> Tensor:
    """Of [..., lat, lon], in units of the field for a cell: central differences, one-sided at the grid's four edges.

    As published it knows neither the size of cells nor that the globe is round.
    """
    northward, eastward = torch.gradient(fields, dim=(-2, -1))
    return torch.hypot(eastward, northward)


class FieldMetrics:
    """Metrics of a stack of fields over their wet cells.

    With e = predicted - true, ⟨…⟩ the weighted mean over wet cells, and G = ⟨gradient magnitude⟩ over those of them that no
    difference crosses a coast for:

    - weighted_rmse = √⟨e²⟩
    - weighted_bias = ⟨e⟩
    - weighted_grad_mag_percent_diff = 100 (G(predicted) - G(true)) / G(true)

    These are the formulas of the published system (github.com/m2lines/Samudra), which weighs cells by the cosine of latitude.
    """

    NAMES = ("weighted_rmse", "weighted_bias", "weighted_grad_mag_percent_diff")
    IN_UNITS_OF_FIELD = NAMES[:2]

    def __init__(self, weight: Tensor) -> None:
        """`weight` [channel, lat, lon] is that of cells, such as their wet area, and zero on land."""
        self.weight = unit_sum(weight.double())
        marked = torch.where(weight > 0, 0.0, torch.nan)
        self.gradient_weight = unit_sum(weight.double() * gradient_magnitude(marked).isfinite())

    def rmse(self, error: Tensor) -> Tensor:
        """[..., channel] of errors [..., channel, lat, lon]"""
        return weighted_mean(error.square(), self.weight).sqrt()

    def of(self, predicted: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """By name, [window, channel] of fields [window, channel, lat, lon]; what stands on land must be finite.

        RMSE and bias come in the units of the fields.
        """
        error = predicted - truth
        steep, truly_steep = (
            weighted_mean(gradient_magnitude(fields), self.gradient_weight) for fields in (predicted, truth)
        )
        values = (self.rmse(error), weighted_mean(error, self.weight), 100 * (steep - truly_steep) / truly_steep)
        return dict(zip(self.NAMES, values, strict=True))
