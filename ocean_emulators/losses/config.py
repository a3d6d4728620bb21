"""What is minimised in training."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from ocean_emulators.config.base import Config
from ocean_emulators.config.bounds import Count, Factor, Positive
from ocean_emulators.losses.dynamic import DynamicScale
from ocean_emulators.losses.gradient import GradientError
from ocean_emulators.losses.grid import LossGrid
from ocean_emulators.losses.masked import MaskedError, Metric, cell_weights
from ocean_emulators.losses.rollout import RolloutLoss
from ocean_emulators.losses.spectral import SpectralError


class GradientTerm(Config):
    weight: Positive
    """factor on it (published: 0.1)"""
    metric: Literal["mse", "mae"] = "mae"
    """squared or absolute error"""


class SpectralTerm(Config):
    weight: Positive
    """factor on it"""


class DynamicWeights(Config):
    limit: float | None = Field(None, ge=1, le=1e6)
    """most that a channel is weighted by, over the least (published Samudra 2: 20); null for no limit"""
    memory: Count = 25
    """over how many batches the weights average, about (published: 25)"""
    estimate: Literal["fresh", "rollout"] = "fresh"
    """whose losses they follow: of one more model step from the batch's data, after the optimiser's step (fresh, as
    published), or of the training rollout itself, whose steps are added up, at no cost (rollout)"""


class LossConfig(Config):
    metric: Metric = "mse"
    """squared or absolute error, or Huber's: half the squared error, beyond a threshold a straight line"""
    huber_threshold: Positive = 1.0
    """where that line begins, in the unit of errors"""
    unit: Literal["state", "change"] = "change"
    """what errors are divided by: each channel's standard deviation, or that of its change over one step"""
    area_weighted: bool = False
    """weigh cells by their wet area instead of equally"""
    normalised_by: Literal["wet", "all"] = "wet"
    """a channel's error is the mean over its wet cells, or over all cells of the grid, with an error of 0 on land, so that
    channels count by their share of ocean (all, as published)"""
    thickness_weighted: bool = False
    """weigh a field's levels by their thickness, with a mean of 1, instead of equally"""
    field_weights: dict[str, Factor] | None = None
    """factors on the loss of some fields, by field name, such as {thetao: 2.0}; others have 1, and null gives it to all"""
    over_steps: Literal["mean", "sum"] = "mean"
    """the loss of a rollout is the mean over its model steps, or their sum (published)"""
    gradient: GradientTerm | None = None
    """adds the error of differences between neighbouring cells; null for none"""
    spectral: SpectralTerm | None = None
    """adds the error of the logarithm of zonal amplitudes, wave by wave; null for none"""
    dynamic: DynamicWeights | None = None
    """weigh channels by the inverse of the losses that they have lately had, on top of all other weights; null for no such
    weights (published Samudra 2: with them)"""

    @field_validator("field_weights")
    @classmethod
    def _none_is_null(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        # `dvc exp run -S` can put a mapping in the place of null, but no new key into an empty one.
        return value or None

    @model_validator(mode="after")
    def _threshold_is_of_huber(self) -> "LossConfig":
        if self.metric != "huber" and self.huber_threshold != 1:
            raise ValueError(
                f"huber_threshold: found {self.huber_threshold}, but metric is {self.metric}, which has no threshold; give "
                "metric: huber, or leave it at 1.0"
            )
        return self

    def build(self, grids: Mapping[str, LossGrid]) -> RolloutLoss:
        """The loss on some grids, by name, which have the same channels."""
        first = next(iter(grids.values()))
        weight = self._channel_weight(first)
        dynamic = DynamicScale(len(weight), self.dynamic.memory, self.dynamic.limit) if self.dynamic else None
        terms = {name: self._terms(grid, weight) for name, grid in grids.items()}
        return RolloutLoss(terms, weight, self.over_steps, dynamic)

    def _channel_weight(self, grid: LossGrid) -> Tensor:
        """[channel]"""
        weight = torch.tensor([(self.field_weights or {}).get(name, 1.0) for name in grid.fields])
        return weight * _relative_thickness(grid) if self.thickness_weighted else weight

    def _terms(self, grid: LossGrid, weight: Tensor) -> list[nn.Module]:
        mask, change = grid.ocean.mask.cpu().bool(), grid.ocean.change_scale.cpu()
        unit = change if self.unit == "change" else torch.ones_like(change)
        cells = cell_weights(grid, self.area_weighted, self.normalised_by)
        terms: list[nn.Module] = [MaskedError(self.metric, self.huber_threshold, unit, cells, weight)]
        if self.gradient:
            terms.append(GradientError(self.gradient.metric, unit, mask, self.gradient.weight * weight))
        if self.spectral:
            terms.append(SpectralError(mask, grid.wet_area, self.spectral.weight * weight))
        return terms


def _relative_thickness(grid: LossGrid) -> Tensor:
    """Of each channel's level, in means over the levels of its field, [channel]."""
    means = {name: grid.thickness[[f == name for f in grid.fields]].mean() for name in set(grid.fields)}
    return grid.thickness / torch.stack([means[name] for name in grid.fields])
