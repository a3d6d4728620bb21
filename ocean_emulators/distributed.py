"""Ranks: the processes that train together, each with a device and a share of every batch."""

import datetime
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ocean_emulators.errors import LOST, UserError, brief

_T = TypeVar("_T")
_LATE_S = 3.0
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


@dataclass(frozen=True)
class Ranks:
    """This process among those that work on the same thing; one that is alone is rank 0 of 1, and talks to nobody."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """among the ranks of this machine: which of its GPUs is ours"""

    @classmethod
    def from_environment(cls) -> Self:
        """As `torchrun` and the launchers say in RANK, WORLD_SIZE and LOCAL_RANK; alone where none of them is set.

        Raises
        ------
        UserError
            If one of them is missing or no number.
        """
        found = {name: os.environ.get(name) for name in _VARIABLES}
        if not any(found.values()):
            return cls()
        try:
            return cls(*(int(value or "") for value in found.values()))
        except ValueError:
            told = ", ".join(f"{name}={value}" for name, value in found.items())
            raise UserError(
                f"{told}: expected a number in each, as torchrun sets them, or none of them for one process"
            ) from None

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files, prints and tracks."""
        return self.rank == 0

    @contextmanager
    def joined(self, device: torch.device, timeout_s: float) -> Iterator[None]:
        """Connect the ranks while the block runs.

        Raises
        ------
        UserError
            If others can't be reached, are lost, or waited for longer than the timeout. It comes some seconds late, so that
            who started the ranks sees first the one that failed, and ends those that miss it.
        """
        if self.world_size == 1:
            yield
            return
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        self._connect(backend, timeout_s)
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, dist.DistError) and "gloo" not in str(error):
                raise
            time.sleep(_LATE_S)
            raise UserError(
                f"process {self.rank + 1} of {self.world_size} {LOST}, or has waited for them for longer than "
                f"{timeout_s:g} s (runtime.patience_s): {brief(error)}; the last saved state is kept"
            ) from error
        finally:
            self.leave()

    def _connect(self, backend: str, timeout_s: float) -> None:
        timeout = datetime.timedelta(seconds=timeout_s)
        try:
            dist.init_process_group(backend, rank=self.rank, world_size=self.world_size, timeout=timeout)
        except RuntimeError as error:
            time.sleep(_LATE_S)
            raise UserError(
                f"process {self.rank + 1} of {self.world_size}, on {socket.gethostname()}, can't reach the others: "
                f"{brief(error)}; on several nodes they talk through the interface that `network` of the launch configuration "
                "names, else through the address of a node's own name, which must not be 127.0.1.1"
            ) from error

    def leave(self) -> None:
        """Disconnect from the others, who must not be asked for anything afterwards."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def sum(self, tensor: Tensor) -> Tensor:
        """Add a tensor up over all ranks, in place; the result is the same, to the bit, on each."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def stack(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks, [rank, …], on each; of the same shape everywhere."""
        rows = tensor.new_zeros(self.world_size, *tensor.shape)
        rows[self.rank] = tensor
        return self.sum(rows)

    def any(self, *flags: bool) -> list[bool]:
        """Whether each of some flags is set on any rank; nothing on a device is waited for."""
        if self.world_size == 1:
            return list(flags)
        together = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(together, dist.ReduceOp.MAX)
        return [bool(flag) for flag in together]

    def gather(self, value: Any) -> list[Any]:
        """What each rank has, by rank, on every rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def share(self, items: Sequence[_T]) -> Sequence[_T]:
        """This rank's part of what all ranks work on, in order; the parts differ by one item at most."""
        first, last = (rank * len(items) // self.world_size for rank in (self.rank, self.rank + 1))
        return items[first:last]


ALONE = Ranks()
"""One process, which shares nothing."""


class GradientSums:
    """Adds gradients up over ranks, bucket by bucket, while the backward pass goes on.

    Not torch's DistributedDataParallel, which puts parameters into other buckets after the first step: from three ranks on,
    a training that resumes would then add in another order than one that was not interrupted. It also wants a gradient for
    every parameter in each step, which a model that trains on several grids does not give.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], ranks: Ranks, bucket_bytes: int = 25 << 20) -> None:
        self.ranks, self._armed = ranks, False
        self._buckets: list[_Bucket] = []
        if ranks.world_size == 1:
            return
        for bucket in _buckets_of(parameters, bucket_bytes):
            self._buckets.append(_Bucket(bucket))
            for parameter in bucket:
                parameter.register_post_accumulate_grad_hook(self._came)
        self._of = {id(p): bucket for bucket in self._buckets for p in bucket.parameters}

    def arm(self) -> None:
        """The next backward pass is the last before the optimiser's step: its gradients are what is added up."""
        self._armed, self._next = True, 0
        for bucket in self._buckets:
            bucket.left = len(bucket.parameters)

    def finish(self) -> None:
        """Wait until every gradient is the sum over ranks."""
        for bucket in self._buckets[self._next :] if self._buckets else []:
            bucket.start()  # a parameter that this step does not reach has no gradient, on no rank
        for bucket in self._buckets:
            bucket.finish()
        self._armed = False

    def _came(self, parameter: Tensor) -> None:
        if not self._armed:
            return
        self._of[id(parameter)].left -= 1
        while self._next < len(self._buckets) and self._buckets[self._next].left == 0:
            self._buckets[self._next].start()  # in one order on all ranks
            self._next += 1


class _Bucket:
    """Gradients that travel together."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters, self.left = parameters, 0
        self.flat = torch.zeros(
            sum(p.numel() for p in parameters), dtype=parameters[0].dtype, device=parameters[0].device
        )
        self.views = [
            part.view_as(p)
            for part, p in zip(self.flat.split([p.numel() for p in parameters]), parameters, strict=True)
        ]
        self.work: Any = None

    def _there(self) -> Iterator[tuple[Tensor, Tensor]]:
        for parameter, view in zip(self.parameters, self.views, strict=True):
            if parameter.grad is not None:
                yield parameter.grad, view

    def start(self) -> None:
        for gradient, view in self._there():
            view.copy_(gradient)
        self.work = dist.all_reduce(self.flat, async_op=True)

    def finish(self) -> None:
        self.work.wait()
        for gradient, view in self._there():
            gradient.copy_(view)


def _buckets_of(parameters: Sequence[nn.Parameter], size: int) -> Iterator[list[nn.Parameter]]:
    """The last parameters first, since their gradients come first."""
    bucket: list[nn.Parameter] = []
    for parameter in reversed(parameters):
        alike = not bucket or (parameter.dtype, parameter.device) == (bucket[0].dtype, bucket[0].device)
        if bucket and (not alike or sum(p.nbytes for p in bucket) + parameter.nbytes > size):
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket
