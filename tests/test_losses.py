"""The loss is a mean over wet cells, of each channel."""

import pytest
import torch

from ocean_emulators.losses.masked import LossConfig, MaskedLoss
from ocean_emulators.models.base import OceanContext

MASK = torch.tensor([[[True, True], [True, False]], [[True, False], [False, False]]])
SCALE = torch.tensor([0.5, 0.25])
AREA = torch.tensor([[3.0, 3.0], [1.0, 1.0]])
CONTEXT = OceanContext(2, 0, MASK, torch.tensor([0.0, 60.0]), torch.tensor([0.0, 180.0]), SCALE)
PREDICTED = torch.tensor([[[1.0, 2.0], [-3.0, 99.0]], [[4.0, 99.0], [99.0, 99.0]]])[None]
TRUTH = torch.zeros(1, 2, 2, 2)


def loss(**changes: object) -> MaskedLoss:
    return LossConfig(**changes).build(CONTEXT, ["so", "zos"], AREA)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"unit": "state"}, [(1 + 4 + 9) / 3, 16]),
        ({"unit": "state", "metric": "mae"}, [2, 4]),
        ({"unit": "change"}, [4 * (1 + 4 + 9) / 3, 16 * 16]),
        ({"unit": "change", "metric": "mae"}, [4, 16]),
        ({"unit": "state", "area_weighted": True}, [(3 * 1 + 3 * 4 + 9) / 7, 16]),
        ({"unit": "state", "field_weights": {"zos": 0.5}}, [(1 + 4 + 9) / 3, 8]),
    ],
)
def test_by_hand(changes: dict[str, object], expected: list[float]) -> None:
    assert loss(**changes)(PREDICTED, TRUTH).tolist() == pytest.approx(expected)


def test_leading_dimensions_are_averaged() -> None:
    several = torch.cat([PREDICTED, TRUTH, TRUTH, TRUTH]).unflatten(0, (2, 2))
    assert torch.allclose(loss()(several, torch.zeros_like(several)), loss()(PREDICTED, TRUTH) / 4)


def test_land_has_no_part_in_value_or_gradient() -> None:
    x = PREDICTED.clone().requires_grad_()
    loss()(x, TRUTH).sum().backward()
    assert x.grad is not None
    assert (x.grad[0, ~MASK] == 0).all()
    assert (x.grad[0, MASK] != 0).all()
    assert torch.equal(loss()(torch.where(MASK, PREDICTED, -5), TRUTH), loss()(PREDICTED, TRUTH))
