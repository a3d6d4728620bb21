"""Work on many independent sequences, some at a time, so that its memory is bounded."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Enough to keep a GPU busy; 128 MiB for each of the widest layers in float32. On the way back a chunk holds some ten.
MOST_VALUES = 2**25


def in_chunks(function: Callable[..., Tensor], *inputs: Tensor, values: int) -> Tensor:
    """`function` of tensors [sequence, …], which treats each sequence by itself, computed for some sequences at a time.

    `values` is the size of the widest layer for one sequence; that of a chunk is at most `MOST_VALUES`.

    Where gradients are wanted and one chunk does not hold all, each is recomputed in the backward pass instead of kept.
    """
    size = max(1, MOST_VALUES // values)
    if len(inputs[0]) <= size:
        return function(*inputs)
    parts = zip(*(x.split(size) for x in inputs), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([function(*part) for part in parts])
    return torch.cat([checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])
