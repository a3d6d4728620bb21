"""Asks git."""

import subprocess


def git(*arguments: str, differs: int = 0) -> bytes:
    """What git says, in bytes, because files that changed may be in any encoding; nothing where there is no git.

    `differs` is an exit code beside 0 by which it says that there is something to say.
    """
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    except OSError:
        return b""
    return done.stdout if done.returncode in (0, differs) else b""
