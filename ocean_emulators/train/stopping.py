"""Signals that ask a training to save its state and end."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""From an operator, Ctrl-C, and schedulers that take a machine back or reach a time limit."""
_ONCE_S = 2.0
"""A terminal and the parent process both pass one Ctrl-C on."""


class StopRequest:
    """Whether one of the signals has come; Ctrl-C once more does what the first would have done without this."""

    def __init__(self) -> None:
        self.by: str | None = None
        self._first = 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of signals while the block runs, instead of ending at once."""
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = self.by is not None and time.monotonic() - self._first > _ONCE_S
        if number == signal.SIGINT and again:
            raise KeyboardInterrupt
        if self.by is None:
            self.by, self._first = signal.Signals(number).name, time.monotonic()
