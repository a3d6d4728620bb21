"""Runs a function over many pieces of work, with no more of them in memory than a stated limit allows."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import psutil
from pydantic import Field

from ocean_emulators.config.base import Config
from ocean_emulators.config.bounds import Positive
from ocean_emulators.errors import UserError

GIB = 2.0**30
_SLACK_BYTES = 128 * 2**20
"""What Zarr's own threads take, and what the allocator keeps of memory that was given back (measured: up to 110 MiB)."""
_CONNECT_SECONDS = "10s"

Item = TypeVar("Item")
Result = TypeVar("Result")


class Resources(Config):
    memory_gib: Positive = 4.0
    """the most memory, GiB, that preparing data and taking their statistics use: in this process, or in each worker of a
    cluster"""
    workers: int = Field(2, ge=1, le=1024)
    """threads of this process that work side by side, as far as the memory allows"""
    scheduler: str | None = None
    """address of a dask.distributed scheduler, such as tcp://node:8786; its workers, which must see the same files, then do
    the work instead of this process's threads"""


class Pool:
    """Workers of which a limited number is busy."""

    def __init__(self, executor: Executor, in_flight: int) -> None:
        self.executor, self.in_flight = executor, in_flight

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """The results, in the order of the items. The first failure is raised, and nothing is begun after it."""
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                if len(waiting) == self.in_flight:
                    yield waiting.popleft().result()
                waiting.append(self.executor.submit(function, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def require_room(resources: Resources, bytes_each: int, what: str, kept: int = 0) -> int:
    """How many pieces of so many bytes the memory limit has room for, beside the program and the bytes that it keeps.

    Raises
    ------
    UserError
        If there is none; `what` names what would be held.
    """
    taken = _program_bytes() + _SLACK_BYTES + kept
    fitting = int((resources.memory_gib * GIB - taken) // bytes_each)
    if fitting < 1:
        raise UserError(
            f"prepare.memory_gib: {resources.memory_gib:g} GiB can't hold {what}, which takes "
            f"{(bytes_each + taken) / GIB:.2f} GiB, the program itself included; raise it in the launch configuration"
        )
    return fitting


@contextmanager
def open_pool(resources: Resources, bytes_each: int, what: str, kept: int = 0) -> Iterator[Pool]:
    """As many workers as may be busy, each with so many bytes, within the memory limit; see `require_room`.

    Raises
    ------
    UserError
        If the limit has no room for even one, or the cluster can't be used.
    """
    fitting = require_room(resources, bytes_each, what, kept)
    if resources.scheduler is not None:
        with _cluster(resources.scheduler, fitting) as pool:
            yield pool
        return
    in_flight = min(resources.workers, fitting)
    with ThreadPoolExecutor(in_flight) as executor:
        yield Pool(executor, in_flight)


@contextmanager
def _cluster(address: str, fitting: int) -> Iterator[Pool]:
    # Here, because it takes half a second and most preparations run on one machine.
    from distributed import Client

    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"prepare.scheduler: no dask scheduler answers at {address} ({error or type(error).__name__}); start one with "
            "`dask scheduler`, or set it to null to work in this process"
        ) from error
    with client:
        threads = client.nthreads()
        if not threads:
            raise UserError(f"prepare.scheduler: {address} has no workers; start some with `dask worker {address}`")
        if max(threads.values()) > fitting:
            raise UserError(
                f"prepare.memory_gib: a worker at {address} has {max(threads.values())} threads, but the limit has room for "
                f"{fitting}; start workers with `--nthreads {fitting}`, or raise it in the launch configuration"
            )
        with client.get_executor(pure=False) as executor:
            yield Pool(executor, sum(threads.values()))


@cache
def _program_bytes() -> int:
    """The memory that this process held before its first work; later, much of what it holds is free to be used again."""
    return int(psutil.Process().memory_info().rss)
