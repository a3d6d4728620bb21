"""Output streams whose reader has gone away: a closed terminal, `… | head`."""

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


@contextmanager
def outliving_readers() -> Iterator[None]:
    """Let a program run on, silently, when nobody reads its output or its messages any more, or ever did.

    A training of days must not be lost with its terminal.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Undying(stream or open(os.devnull, "w")) for stream in before)  # noqa: SIM115
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def is_unread(stream: TextIO) -> bool:
    """Whether a stream is a pipe that nobody reads."""
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def lead_nowhere(stream: TextIO) -> None:
    """From now on, what is written to a stream is lost, without an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class _Undying(io.TextIOBase):
    """A text stream that leads nowhere once nobody reads it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            lead_nowhere(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            lead_nowhere(self._stream)

    def close(self) -> None:
        """Leave the stream open: it is another's, and this is called when nobody uses this one any more."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("write", "flush", "writelines", "close", "_stream", "__class__"):
            return super().__getattribute__(name)
        return getattr(self._stream, name)
