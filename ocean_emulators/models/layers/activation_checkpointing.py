"""Activation checkpointing: the backward pass recomputes what is inside parts of a network instead of keeping it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts, noop_context_fn

Checkpointing = Literal["none", "convolutions", "layers"]
CHECKPOINTING: tuple[Checkpointing, ...] = get_args(Checkpointing)

_Context = AbstractContextManager[None]
_KEPT = [torch.ops.aten.convolution.default]
_recomputing: ContextVar[bool] = ContextVar("recomputing", default=False)


def recomputing() -> bool:
    """Whether a layer runs for the second time, in the backward pass: what it counts, it has counted."""
    return _recomputing.get()


def run(layer: nn.Module, x: Tensor, mode: Checkpointing) -> Tensor:
    """`layer(x)`, of which the backward pass finds kept: all, nothing inside, or the results of convolutions."""
    if mode == "none" or not torch.is_grad_enabled():
        return layer(x)  # type: ignore[no-any-return]
    kept = partial(create_selective_checkpoint_contexts, _KEPT) if mode == "convolutions" else None
    if not torch.compiler.is_compiling():  # what is compiled counts once by itself
        kept = partial(_marked, kept or noop_context_fn)
    # The compiler takes no function that keeps nothing but the one that it is given by default.
    given: dict[str, Any] = {"context_fn": kept} if kept else {}
    out: Tensor = checkpoint(layer, x, use_reentrant=False, preserve_rng_state=False, **given)
    return out


def _marked(contexts: Callable[[], tuple[_Context, _Context]]) -> tuple[_Context, _Context]:
    first, second = contexts()
    return first, _second_time(second)


@contextmanager
def _second_time(inner: _Context) -> Iterator[None]:
    token = _recomputing.set(True)
    try:
        with inner:
            yield
    finally:
        _recomputing.reset(token)
