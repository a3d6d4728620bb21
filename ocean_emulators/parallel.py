"""Runs a function over many pieces of work, with no more of them in memory than a stated limit allows."""

import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any, Generic, TypeVar

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
State = TypeVar("State")


class Resources(Config):
    memory_gib: Positive = 4.0
    """the most memory, GiB, that preparing data and taking their statistics use: in this process, or in each worker of a
    cluster"""
    workers: int = Field(2, ge=1, le=1024)
    """threads of this process that work side by side, as far as the memory allows"""
    scheduler: str | None = None
    """address of a dask.distributed scheduler, such as tcp://node:8786; its workers, which must see the same files, then do
    the work instead of this process's threads"""


class Opened(Generic[State]):
    """What a process opens once, however many pieces of work it does, and all its threads use. Pickled, it is how to."""

    def __init__(self, how: Callable[[], State], here: State | None = None) -> None:
        """`here` is what this process has opened already."""
        self.how, self._state, self._lock = how, here, Lock()

    def get(self) -> State:
        """What is open, opened now if it was not."""
        with self._lock:
            if self._state is None:
                self._state = self.how()
            return self._state

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.how,)


class Pool(Generic[State]):
    """Workers of which a limited number is busy. Each piece of work is given what its process has opened."""

    def __init__(self, executor: Executor, state: Callable[[], State], in_flight: int) -> None:
        """`state` gives a worker what its process has opened."""
        self.executor, self.state, self.in_flight = executor, state, in_flight

    def map(self, function: Callable[[State, Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """The results, in the order of the items. The first failure is raised, and nothing is begun after it."""
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                if len(waiting) == self.in_flight:
                    yield waiting.popleft().result()
                waiting.append(self.executor.submit(_call, function, self.state, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _call(function: Callable[[State, Item], Result], state: Callable[[], State], item: Item) -> Result:
    return function(state(), item)


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
def open_pool(
    resources: Resources, opened: Opened[State], bytes_each: int, what: str, kept: int = 0
) -> Iterator[Pool[State]]:
    """As many workers as may be busy, each with so many bytes, within the memory limit; see `require_room`.

    `opened` is what they are given beside their work; in other processes it is open until the pool is closed.

    Raises
    ------
    UserError
        If the limit has no room for even one, or the cluster can't be used.
    """
    fitting = require_room(resources, bytes_each, what, kept)
    if resources.scheduler is not None:
        with _cluster(resources.scheduler, opened, fitting) as pool:
            yield pool
        return
    in_flight = min(resources.workers, fitting)
    with ThreadPoolExecutor(in_flight) as executor:
        yield Pool(executor, opened.get, in_flight)


@contextmanager
def _cluster(address: str, opened: Opened[State], fitting: int) -> Iterator[Pool[State]]:
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
        held = _HeldByWorker(uuid.uuid4().hex, opened)
        try:
            with client.get_executor(pure=False) as executor:
                yield Pool(executor, held, sum(threads.values()))
        finally:
            client.run(held.close, on_error="ignore")


class _HeldByWorker(Generic[State]):
    """What a worker of a cluster has opened, kept by the worker itself, which may outlive many pools."""

    def __init__(self, name: str, opened: Opened[State]) -> None:
        self.name, self.opened = name, opened

    def __call__(self) -> State:
        from distributed import get_worker

        opened: Opened[State] = vars(get_worker()).setdefault(self.name, self.opened)
        return opened.get()

    def close(self, dask_worker: Any) -> None:
        """Let go of it."""
        vars(dask_worker).pop(self.name, None)


@cache
def _program_bytes() -> int:
    """The memory that this process held before its first work; later, much of what it holds is free to be used again."""
    return int(psutil.Process().memory_info().rss)
