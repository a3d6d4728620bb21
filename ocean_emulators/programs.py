"""Exit codes and last messages of the project's programs."""

import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ocean_emulators.errors import Interrupted, UserError, mask
from ocean_emulators.files import explain
from ocean_emulators.streams import is_unread, lead_nowhere

USER_ERROR = 2
INTERRUPTED = 128 + 2  # as a shell reports SIGINT
RESUME_ME = 75  # EX_TEMPFAIL of sysexits.h: run it again
_KILLED_BY_SIGPIPE = 128 + 13


def interrupt(number: int, frame: FrameType | None) -> None:
    """A handler of signals: what is being done ends with `Interrupted`."""
    raise Interrupted(f"stopped by {signal.Signals(number).name}")


@contextmanager
def ending_well(resume: str = "run it again") -> Iterator[None]:
    """Turn what ends a program early into one line, with the way out, and an exit code.

    A `UserError`, and what the operating system says of a file, end in 2; an interruption in 130, with `resume` as the way
    on; any other error in a traceback without keys and 1. Where nobody reads what was printed, as in `… | head`, the end is
    quiet.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except Interrupted as stopped:
        print(f"interrupted: {stopped}; {resume}", file=sys.stderr)
        sys.exit(RESUME_ME)
    except KeyboardInterrupt:
        print(f"interrupted: {resume}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        # Else it was another pipe: a connection.
        if isinstance(error, BrokenPipeError) and sys.stdout is not None and is_unread(sys.stdout):
            lead_nowhere(sys.stdout)
            sys.exit(_KILLED_BY_SIGPIPE)
        if isinstance(error, OSError) and error.filename is not None:
            print(f"error: {mask(explain(error))}", file=sys.stderr)
            sys.exit(USER_ERROR)
        print(mask(traceback.format_exc()), file=sys.stderr, end="")
        sys.exit(1)
