"""The one exception for what a user can get wrong, and how programs end."""

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

EXIT_CODE = 2
_KILLED_BY_SIGPIPE = 128 + 13
"""as a shell reports it"""


class UserError(Exception):
    """A mistake in what was asked or given: says what, where, and the way out.

    Programs print the message without a traceback and exit with 2. Mistakes of ours stay asserts.
    """


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn a `UserError` into a message and exit code 2, and end quietly where nobody reads on, as in `… | head`."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_CODE)
    except BrokenPipeError:
        if not _is_unread(sys.stdout):
            raise  # it was another pipe, such as a connection
        _lead_nowhere(sys.stdout)
        sys.exit(_KILLED_BY_SIGPIPE)


@contextmanager
def outliving_readers() -> Iterator[None]:
    """Let a program run on, silently, when what reads its output or its messages ends or was never there.

    What has been computed for days shall not be lost with the terminal.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Undying(stream or open(os.devnull, "w")) for stream in before)  # noqa: SIM115
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _is_unread(stream: TextIO) -> bool:
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _lead_nowhere(stream: TextIO) -> None:
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
            _lead_nowhere(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            _lead_nowhere(self._stream)

    def __getattribute__(self, name: str) -> Any:
        if name in ("write", "flush", "writelines", "_stream", "__class__"):
            return super().__getattribute__(name)
        return getattr(self._stream, name)
