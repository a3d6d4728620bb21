"""Asks git."""

import subprocess


def git(*arguments: str) -> bytes:
    """What git says, in bytes, because files that changed may be in any encoding; nothing where there is no git."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return b""
    return done.stdout.strip()
