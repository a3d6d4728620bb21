"""Where the time of a training goes."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
PARTS = ("start", "data", "compute", "validation", "checkpoint", "tracking")


class Ledger:
    """Seconds by what they were spent on; what is on none of the accounts is `other`, so that all add up to the whole.

    On a GPU, where work is only asked for, what is waited for is booked where it is waited for: the check of the gradient,
    at the end of each step's computation.
    """

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.seconds = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Book the time of a block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - began

    def waiting(self, items: Iterable[T]) -> Iterator[T]:
        """The items, with the time that each was waited for booked as `data`."""
        iterator = iter(items)
        while True:
            with self.on("data"):
                item = next(iterator, None)
            if item is None:
                return
            yield item

    @property
    def total(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.began

    def accounts(self) -> dict[str, float]:
        """Seconds by part; they add up to `total`."""
        return {**self.seconds, "other": self.total - sum(self.seconds.values())}

    def lines(self) -> list[str]:
        """A table for people."""
        accounts, total = self.accounts(), max(self.total, 1e-9)
        return [f"{part:<11} {seconds:9.1f} s {100 * seconds / total:5.1f} %" for part, seconds in accounts.items()]
