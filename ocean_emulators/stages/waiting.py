"""Stages of several processes may wait for one job: each gets its results, and the last one tidies up."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ocean_emulators.jobs.base import Job


class Waiting:
    """One that waits, and knows of the others; each holds a lock on a file of its own, which ends with its process."""

    def __init__(self, job: Job) -> None:
        self.folder, self._job = job.workspace.scratch / "waiting", job.folder.name
        self.file = self.folder / f"{self._job}-{uuid.uuid4().hex}"

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """While the block runs no other is in such a block; whether nobody else waits for the job."""
        lock = self.folder / f"{self._job}.lock"
        with FileLock(lock):
            others = [file for file in self.folder.glob(f"{self._job}-*") if file != self.file and _is_held(file)]
            yield not others
            self.file.unlink(missing_ok=True)
            if not others:
                lock.unlink(missing_ok=True)


@contextmanager
def waiting_for(job: Job) -> Iterator[Waiting]:
    """Wait for a job while the block runs."""
    waiting = Waiting(job)
    with FileLock(waiting.file):
        try:
            yield waiting
        finally:
            waiting.file.unlink(missing_ok=True)
            with suppress(OSError):  # others are there
                waiting.folder.rmdir()


def _is_held(file: Path) -> bool:
    """Whether the process that made it is there; the file of one that is not is cleared away."""
    try:
        with FileLock(file, timeout=0):
            file.unlink(missing_ok=True)
    except Timeout:
        return True
    return False
