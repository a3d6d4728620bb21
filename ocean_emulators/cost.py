"""What a model step costs, found by running it on tensors that have shapes and no values; and what is too large to run."""

import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ocean_emulators.errors import UserError
from ocean_emulators.models.base import BaseModel, BaseModelConfig, OceanContext

_FLOAT = 4
_GIB = 2**30
TRAINING_COPIES = 5
"""What training holds for the weights: themselves, gradients, Adam's two averages and the moving average."""
_MOST_WINDOWS = 10**9


@dataclass(frozen=True)
class Cost:
    """Of one model step on one window. Memory is that of tensors: an allocator may take up to half as much again where much
    is freed and allocated anew (activation checkpointing)."""

    n_parameters: int
    in_channels: int
    out_channels: int
    forward_flops: int
    """of a forward pass; a multiplication and an addition are two"""
    training_flops: int
    """of a forward and a backward pass, recomputation included"""
    kept_bytes: int
    """what a model step leaves in memory for the backward pass"""
    peak_bytes: int
    """the most that a forward and a backward pass hold at a time, gradients included, beside parameters and inputs"""
    peak_bytes_more: int
    """what each further window of a batch adds to that: less, where work is done in chunks"""

    @property
    def weight_bytes(self) -> int:
        """What training holds for the weights, see `TRAINING_COPIES`."""
        return TRAINING_COPIES * _FLOAT * self.n_parameters

    def training_bytes(self, model_steps: int, batch: int = 1) -> int:
        """The most that training on a batch of windows holds, with a rollout of several model steps, all back-propagated."""
        gradients, kept = _FLOAT * self.n_parameters, batch * self.kept_bytes
        peak = self.peak_bytes + (batch - 1) * self.peak_bytes_more - gradients
        return self.weight_bytes + (model_steps - 1) * kept + max(peak, kept)

    def largest_batch(self, model_steps: int, memory_bytes: float) -> int:
        """How many windows fit into so much memory."""
        return bisect_left(
            range(1, _MOST_WINDOWS), True, key=lambda n: self.training_bytes(model_steps, n) > memory_bytes
        )


def build_without_values(config: BaseModelConfig, oceans: Sequence[OceanContext]) -> BaseModel:
    """The model on the meta device, which takes no memory however large it is.

    Raises
    ------
    UserError
        For a grid that it can't run on.
    """
    with torch.device("meta"):
        return config.replace(compile=False).build(*oceans)


def require_memory(model: BaseModel, copies: int, memory_bytes: float) -> None:
    """Refuse a model of which so many copies are more than there is memory for, before any is made.

    Raises
    ------
    UserError
        Naming the model, what it takes, and what there is.
    """
    n_parameters = sum(p.numel() for p in model.parameters())
    needed = copies * _FLOAT * n_parameters
    if needed > memory_bytes:
        raise UserError(
            f"model: this {model.config.family} has {n_parameters:,} parameters, which take {needed / _GIB:,.1f} GiB "
            f"({copies} number(s) for each, without activations), but there are {memory_bytes / _GIB:,.1f} GiB; make it "
            "smaller (fewer or narrower layers), or go to a machine with more memory (`ocean-emulators check --memory-gib` "
            "plans for one)"
        )


def memory_of(device: torch.device | None = None) -> int:
    """The memory of a device, bytes; without one, of the device of this machine that has most."""
    if device is None:
        gpus = map(torch.device, (f"cuda:{i}" for i in range(torch.cuda.device_count())))
        return max(map(memory_of, (torch.device("cpu"), *gpus)))
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)


def cost_of_model_step(config: BaseModelConfig, oceans: Sequence[OceanContext], grid: str | None = None) -> Cost:
    """Cost of a step of a model that is built for `oceans`, on one of their grids (None where there is one alone).

    Compilation may save some of it.
    """
    with _pretending(config, oceans, grid) as (model, step):
        forward, total = _flops(step)
        with _Memory() as one:
            kept, _ = step(1, lambda: one.held)
        with _Memory() as two:
            step(2, lambda: two.held)
    return Cost(
        n_parameters=sum(p.numel() for p in model.parameters()),
        in_channels=model.in_channels,
        out_channels=model.out_channels,
        forward_flops=forward,
        training_flops=total,
        kept_bytes=kept,
        peak_bytes=one.peak,
        peak_bytes_more=two.peak - one.peak,
    )


def training_flops(config: BaseModelConfig, oceans: Sequence[OceanContext], grid: str | None = None) -> int:
    """`Cost.training_flops` alone, in a third of the time."""
    with _pretending(config, oceans, grid) as (_, step):
        return _flops(step)[1]


_Step = Callable[[int, Callable[[], int]], tuple[int, int]]


@contextmanager
def _pretending(
    config: BaseModelConfig, oceans: Sequence[OceanContext], grid: str | None
) -> Iterator[tuple[BaseModel, _Step]]:
    """The model with tensors that have no values, and a step of it."""
    assert grid or len(oceans) == 1, "on which of the grids?"
    ocean = next(ocean for ocean in oceans if grid in (None, ocean.name))
    model = build_without_values(config, oceans).train()
    with torch.enable_grad(), FakeTensorMode():
        _pretend(model)
        yield model, partial(_step, model, ocean)


def _flops(step: _Step) -> tuple[int, int]:
    """Of a forward pass, and of it and the backward pass."""
    # The counter knows attention as matrix products alone. It keeps what it sees, so memory is looked at without it.
    with FlopCounterMode(display=False) as flops, sdpa_kernel(SDPBackend.MATH):
        return step(1, flops.get_total_flops)


def _step(model: BaseModel, ocean: OceanContext, batch: int, read: Callable[[], int]) -> tuple[int, int]:
    """A forward and a backward pass; what `read` says after each."""
    config = model.config
    states = torch.empty(batch, config.input_states, ocean.n_prognostic, *ocean.grid_shape)
    forcing = torch.empty(batch, len(config.forcing_times), ocean.n_forcing, *ocean.grid_shape)
    out = model(states, forcing, ocean.name)
    after_forward = read()
    gradients = torch.autograd.grad(out.sum(), list(model.parameters()))
    after_backward = read()
    del gradients
    return after_forward, after_backward


def _pretend(model: nn.Module) -> None:
    """Put fake tensors of the CPU in the place of the meta device's: which kernels run, and autocast, depend on the device."""
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
