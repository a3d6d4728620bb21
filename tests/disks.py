"""Disks that are full, or may not be written to, as tests make them."""

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FULL = "no space left on device; free some space there, and run it again"
LARGE = r"file too large; have the limit on the size of files raised \(`ulimit -f`\), and run it again"
READ_ONLY = "read-only file system; make it writable, or work in another folder, and run it again"


@contextmanager
def limit(kind: int, value: int) -> Iterator[None]:
    """A limit of this process, lifted afterwards."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@contextmanager
def small_disk(place: Path, options: str) -> Iterator[None]:
    """A file system of its own, which root alone can have."""
    place.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(disk: Path) -> None:
    """Leave no space on a disk: what is in the way is its file `rest`."""
    subprocess.run(["dd", "if=/dev/zero", f"of={disk}/rest", "status=none"], check=False, capture_output=True)
