"""The one exception for what a user can get wrong, and how it ends a program."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = 2


class UserError(Exception):
    """A mistake in what was asked or given: says what, where, and the way out.

    Programs print the message without a traceback and exit with 2. Mistakes of ours stay asserts.
    """


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn a `UserError` into a message and exit code 2."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_CODE)


def brief(error: BaseException) -> str:
    """The first line of what an error says, or else its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
