"""What a call of a model costs: found by running it on tensors that have shapes and no values."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ocean_emulators.models.base import BaseModelConfig, OceanContext

_FLOAT = 4


@dataclass(frozen=True)
class Cost:
    """Of one call on one window. Memory is that of tensors: an allocator may keep more, up to a half where much is given back
    and taken again (checkpointing)."""

    n_parameters: int
    in_channels: int
    out_channels: int
    forward_flops: int
    """of a forward pass; a multiplication and an addition are two"""
    training_flops: int
    """of a forward and a backward pass, what is computed again included"""
    kept_bytes: int
    """what a call leaves in memory for back-propagation"""
    peak_bytes: int
    """the most that a forward and a backward pass hold at a time, gradients included, beside parameters and inputs"""

    @property
    def weight_bytes(self) -> int:
        """What training holds for the weights: themselves, gradients, Adam's two averages and the moving average."""
        return 5 * _FLOAT * self.n_parameters

    def window_bytes(self, calls: int) -> int:
        """The most that a window of several calls, all back-propagated, adds to that."""
        gradients = _FLOAT * self.n_parameters
        return (calls - 1) * self.kept_bytes + max(self.peak_bytes - gradients, self.kept_bytes)

    def largest_batch(self, calls: int, memory_bytes: float) -> int:
        """How many windows fit into so much memory."""
        return max(0, int((memory_bytes - self.weight_bytes) // self.window_bytes(calls)))


@torch.enable_grad()
def cost_of_call(config: BaseModelConfig, oceans: Sequence[OceanContext], resolution: int = 0) -> Cost:
    """Cost of a call of a model that is built for `oceans`, on one of them; compilation may save some of it."""
    with torch.device("meta"):
        model = config.replace(compile=False).build(*oceans).train()
    with FakeTensorMode():
        _pretend(model)
        parameters, ocean = list(model.parameters()), oceans[resolution]
        states = torch.empty(1, config.input_states, ocean.n_prognostic, *ocean.grid_shape)
        forcing = torch.empty(1, len(config.forcing_times), ocean.n_forcing, *ocean.grid_shape)
        with FlopCounterMode(display=False) as flops, _Memory() as memory:
            out = model(states, forcing, resolution)
            forward, kept = flops.get_total_flops(), memory.held
            gradients = torch.autograd.grad(out.sum(), parameters)
            total = flops.get_total_flops()
        del gradients
    return Cost(
        n_parameters=sum(p.numel() for p in parameters),
        in_channels=model.in_channels,
        out_channels=model.out_channels,
        forward_flops=forward,
        training_flops=total,
        kept_bytes=kept,
        peak_bytes=memory.peak,
    )


def _pretend(model: nn.Module) -> None:
    """Tensors that claim to lie in memory, unlike those of the meta device: kernels and autocast depend on the device."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(torch.empty(parameter.shape, dtype=parameter.dtype))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


class _Memory(TorchDispatchMode):
    """Adds up the memory of tensors while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held, self.peak = 0, 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:  # else it is a view of what is there, or changed in place
            self._sizes[key] = storage.nbytes()
            self.held += self._sizes[key]
            self.peak = max(self.peak, self.held)
            weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.held -= self._sizes.pop(key)
