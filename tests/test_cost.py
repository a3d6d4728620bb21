"""What a model step costs, against running it; and that recomputing changes nothing but that."""

from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ocean_emulators.cost import Cost, cost_of_model_step
from ocean_emulators.models.families import parse_model
from ocean_emulators.models.fomo import chunks
from ocean_emulators.models.fomo.perceiver import Attention
from ocean_emulators.models.layers.activation_checkpointing import CHECKPOINTING, Checkpointing
from ocean_emulators.models.samudra import SamudraConfig
from tests import fomos
from tests.autograd import saved_for_backward
from tests.samudras import ocean, small

SHAPE = (18, 36)


def inputs(config: SamudraConfig) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, n, c, *SHAPE, generator=generator) for n, c in ((config.input_states, 3), (2, 1)))  # type: ignore[return-value]


@pytest.mark.parametrize("checkpointing", CHECKPOINTING)
def test_arithmetic_is_what_a_run_does(checkpointing: Checkpointing) -> None:
    config = small(norm="batch", checkpointing=checkpointing)
    model, (states, forcing) = config.build(ocean(3, 1, *SHAPE)).train(), inputs(config)
    multiplications = 0

    def count(conv: nn.Conv2d, given: object, out: Tensor) -> None:
        nonlocal multiplications
        multiplications += out[0].numel() * conv.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d)]  # type: ignore[arg-type]
    model(states[:1], forcing[:1])
    for hook in hooks:
        hook.remove()
    cost = cost_of_model_step(config, [ocean(3, 1, *SHAPE)])
    assert cost.forward_flops == 2 * multiplications
    with FlopCounterMode(display=False) as counter:
        model(states[:1], forcing[:1]).sum().backward()
    assert cost.training_flops == counter.get_total_flops()
    assert (cost.training_flops > 3 * cost.forward_flops) == (checkpointing == "layers")
    assert cost.n_parameters == sum(p.numel() for p in model.parameters())


def test_a_network_that_is_to_be_compiled_costs_what_it_does_by_itself() -> None:
    assert cost_of_model_step(small(compile=True), [ocean(3, 1, *SHAPE)]) == cost_of_model_step(
        small(), [ocean(3, 1, *SHAPE)]
    )


def test_less_is_kept_where_more_is_computed_again() -> None:
    costs = [cost_of_model_step(small(checkpointing=c), [ocean(3, 1, *SHAPE)]) for c in CHECKPOINTING]
    assert costs[0].kept_bytes > costs[1].kept_bytes > costs[2].kept_bytes
    half = cost_of_model_step(small(widths=(16, 16), precision="bfloat16"), [ocean(3, 1, *SHAPE)])
    whole = cost_of_model_step(small(widths=(16, 16)), [ocean(3, 1, *SHAPE)])
    assert 0.4 * whole.kept_bytes < half.kept_bytes < 0.7 * whole.kept_bytes


def test_what_is_kept_is_all_that_autograd_saves() -> None:
    """Against the tensors that autograd itself hands out, by the storages that they share."""
    config = small(norm="batch")
    model, (states, forcing) = config.build(ocean(3, 1, *SHAPE)).train(), inputs(config)
    with saved_for_backward(model) as saved:
        out = model(states[:1], forcing[:1])
    saved[out.untyped_storage().data_ptr()] = out.nbytes
    cost = cost_of_model_step(config, [ocean(3, 1, *SHAPE)])
    assert cost.kept_bytes == pytest.approx(sum(saved.values()), rel=0.05)


def test_the_largest_batch_is_the_last_that_fits() -> None:
    cost = Cost(1000, 1, 1, 0, 0, kept_bytes=10_000, peak_bytes=16_000, peak_bytes_more=11_000)
    assert cost.training_bytes(3) == cost.weight_bytes + 2 * 10_000 + 12_000
    assert cost.training_bytes(3, 2) == cost.weight_bytes + 2 * 20_000 + 23_000
    assert cost.largest_batch(3, cost.training_bytes(3, 2)) == 2
    assert cost.largest_batch(3, cost.training_bytes(3, 2) - 1) == 1
    assert cost.largest_batch(3, 0) == 0


def test_work_in_chunks_adds_less_for_each_window() -> None:
    sizes = {"latents": 16, "latent_width": 32, "heads": 4, "head_width": 32}
    config = fomos.small(encoder={"type": "perceiver", "width": 8, "depth": 1, **sizes}, checkpointing="layers")
    cost = cost_of_model_step(config, [fomos.ocean(64, 128)])
    values = 16 * 3 * 4 * 32 * 8 * 16
    with mock.patch.object(chunks, "MOST_VALUES", values // 4):
        chunked = cost_of_model_step(config, [fomos.ocean(64, 128)])
    assert chunked.peak_bytes < 0.6 * cost.peak_bytes
    assert chunked.peak_bytes_more < 0.6 * cost.peak_bytes_more


def test_attention_is_counted() -> None:
    """Against the sum over layers of a FOMO, on one grid."""
    config, grid = fomos.small(), fomos.ocean(16, 32)
    model, multiplications = config.build(grid), 0

    def count(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal multiplications
        if isinstance(layer, nn.Linear):
            multiplications += out.numel() * layer.in_features
        elif isinstance(layer, nn.Conv2d):
            multiplications += out.numel() * layer.weight[0].numel()
        elif isinstance(layer, Attention):
            x, context = given[0], given[-1]
            multiplications += 2 * len(x) * x.shape[1] * context.shape[1] * layer.to_q.out_features

    for module in model.modules():
        module.register_forward_hook(count)  # type: ignore[arg-type]
    model(torch.randn(1, 1, 3, 16, 32), torch.randn(1, 2, 1, 16, 32))
    assert cost_of_model_step(config, [grid]).forward_flops == 2 * multiplications


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("checkpointing", CHECKPOINTING[1:])
def test_recomputing_changes_neither_gradients_nor_what_norms_count(checkpointing: Checkpointing, norm: str) -> None:
    results = []
    for mode in ("none", checkpointing):
        torch.manual_seed(0)
        config = small(norm=norm, checkpointing=mode)
        model, (states, forcing) = config.build(ocean(3, 1, *SHAPE)).train(), inputs(config)
        for _ in range(2):
            states = model(states, forcing)
        states.square().mean().backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        results.append({**gradients, **dict(model.named_buffers()), "states": states})
    for name, tensor in results[0].items():
        assert tensor is not None and torch.equal(tensor, results[1][name]), name
    if norm == "batch":
        assert results[0]["unet.layers.0.convblock.1.num_batches_tracked"] == 2


def test_recomputing_saves_memory_in_all_of_a_fomo() -> None:
    model = parse_model({"type": "fomo", **fomos.CONSERVATIVE}, "test")
    costs = [cost_of_model_step(model.replace(checkpointing=c), [fomos.ocean(16, 32)]) for c in CHECKPOINTING]
    assert costs[0].kept_bytes > 1.5 * costs[1].kept_bytes > 2 * costs[2].kept_bytes
