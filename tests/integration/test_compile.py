"""torch.compile leaves a network what it was: results, gradients, what batch norms count, and what is kept for them."""

import shutil

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from ocean_emulators.cost import cost_of_model_step
from ocean_emulators.models.base import BaseModel, BaseModelConfig, OceanContext
from ocean_emulators.models.layers.activation_checkpointing import Checkpointing
from tests import fomos, samudras
from tests.autograd import saved_for_backward

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"),
    pytest.mark.filterwarnings("default"),  # torch warns of itself
]


@pytest.fixture(autouse=True)
def _afresh() -> None:
    torch._dynamo.reset()
    counters.clear()


def pair(config: BaseModelConfig, ocean: OceanContext) -> tuple[BaseModel, BaseModel]:
    """With the same weights, the second one compiled."""
    models = config.build(ocean), config.replace(compile=True).build(ocean)
    models[1].load_state_dict(models[0].state_dict())
    return models


def trained(model: BaseModel, shape: tuple[int, int]) -> tuple[Tensor, list[Tensor], int]:
    """Output, gradients, and the bytes that were kept for back-propagation by others than the weights."""
    generator = torch.Generator().manual_seed(0)
    states, forcing = (torch.randn(2, n, c, *shape, generator=generator) for n, c in ((1, 3), (2, 1)))
    with saved_for_backward(model) as kept:
        y = model(states, forcing)
    loss = y.square().mean()
    return y.detach(), list(torch.autograd.grad(loss, list(model.parameters()))), sum(kept.values())


@pytest.mark.parametrize("checkpointing", ["none", "convolutions", "layers"])
def test_a_compiled_samudra_trains_and_infers_as_it_did(checkpointing: Checkpointing) -> None:
    ocean = samudras.ocean(3, 1, 16, 32)
    config = samudras.small(widths=(4,), dilation=(1,), norm="batch", checkpointing=checkpointing)
    eager, compiled = pair(config, ocean)
    (y, gradients, _), (again, gradients_again, kept) = (trained(m.train(), (16, 32)) for m in (eager, compiled))
    assert torch.allclose(y, again, atol=1e-5)
    largest = max(float(g.abs().max()) for g in gradients)
    for g, h in zip(gradients, gradients_again, strict=True):
        assert torch.allclose(g, h, rtol=1e-3, atol=1e-5 * largest)
    assert kept <= 2 * cost_of_model_step(config, [ocean]).kept_bytes
    for (name, a), b in zip(eager.state_dict().items(), compiled.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name
    with torch.no_grad():
        states, forcing = torch.randn(2, 1, 3, 16, 32), torch.randn(2, 2, 1, 16, 32)
        assert torch.allclose(eager.eval()(states, forcing), compiled.eval()(states, forcing), atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]


def test_a_compiled_fomo_trains_as_it_did() -> None:
    ocean = fomos.ocean(16, 32)
    eager, compiled = pair(fomos.small(), ocean)
    (y, gradients, _), (again, gradients_again, _) = (trained(m.train(), (16, 32)) for m in (eager, compiled))
    assert torch.allclose(y, again, atol=1e-5)
    for g, h in zip(gradients, gradients_again, strict=True):
        assert torch.allclose(g, h, rtol=1e-3, atol=1e-6)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
