"""The published formulas of reduced metrics, to the digits that the published code gave."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ocean_emulators.aggregator.reduced import FieldMetrics

LAT = np.array([-67.5, -22.5, 22.5, 67.5])
PRINTED = {
    "weighted_rmse": [0.626960, 1.068527, 1.231192, 0.643641, 1.093468, 1.102625],
    "weighted_bias": [0.388035, 0.061581, -0.456730, -0.409066, -0.399775, 0.298113],
    "weighted_grad_mag_percent_diff": [11.383785, 27.014754, 43.825893, 1.707229, 20.778808, 9.398263],
}
"""of the first window: two times of three fields, each on its own mask"""


def fields() -> tuple[Tensor, Tensor]:
    """[window, channel, lat, lon]"""
    k = torch.arange(2 * 6 * 4 * 8, dtype=torch.float64).view(2, 6, 4, 8)
    return torch.sin(0.3 * k), torch.cos(0.17 * k)


def weight() -> Tensor:
    mask = torch.ones(3, 4, 8, dtype=torch.bool)
    mask[:, 0, :2] = False
    mask[1:, 2, 5:] = False
    return mask.repeat(2, 1, 1) * torch.as_tensor(np.cos(np.deg2rad(LAT)))[:, None]


@pytest.mark.parametrize("name", FieldMetrics.NAMES)
def test_they_are_the_published_ones_to_the_last_digit(name: str) -> None:
    predicted, truth = fields()
    values = FieldMetrics(weight()).of(predicted, truth)[name]
    assert values.shape == (2, 6)
    assert values[0].tolist() == pytest.approx(PRINTED[name], abs=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1e9])
def test_weights_may_have_any_unit(scale: float) -> None:
    once, again = (FieldMetrics(w).of(*fields()) for w in (weight(), scale * weight()))
    for name in FieldMetrics.NAMES:
        assert torch.allclose(once[name], again[name])


def test_what_stands_on_land_counts_nowhere() -> None:
    metrics, (predicted, truth) = FieldMetrics(weight()), fields()
    before = metrics.of(predicted, truth)
    after = metrics.of(torch.where(weight() > 0, predicted, 7.0), torch.where(weight() > 0, truth, -3.0))
    assert all(torch.equal(before[name], after[name]) for name in FieldMetrics.NAMES)
