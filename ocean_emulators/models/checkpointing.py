"""Computes parts of a network again in back-propagation instead of keeping what is inside them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

Checkpointing = Literal["none", "convolutions", "layers"]
CHECKPOINTING: tuple[Checkpointing, ...] = get_args(Checkpointing)

_KEPT = [torch.ops.aten.convolution.default]
_again: ContextVar[bool] = ContextVar("again", default=False)


def computing_again() -> bool:
    """Whether a layer runs for the second time: what it counts, it has counted."""
    return _again.get()


def run(layer: nn.Module, x: Tensor, mode: Checkpointing) -> Tensor:
    """`layer(x)`, of which back-propagation keeps all, nothing inside, or the results of convolutions."""
    if mode == "none" or not torch.is_grad_enabled():
        out: Tensor = layer(x)
        return out
    contexts = _nothing_kept if mode == "layers" else _convolutions_kept
    again: Tensor = checkpoint(layer, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return again


def _nothing_kept() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _second_time(nullcontext())


def _convolutions_kept() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    first, second = create_selective_checkpoint_contexts(_KEPT)
    return first, _second_time(second)


@contextmanager
def _second_time(inner: AbstractContextManager[None]) -> Iterator[None]:
    token = _again.set(True)
    try:
        with inner:
            yield
    finally:
        _again.reset(token)
