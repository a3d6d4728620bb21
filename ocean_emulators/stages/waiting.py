"""Stages of several processes may wait for one job: each gets its results, and the last one tidies up."""

import fcntl
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ocean_emulators.jobs.base import Job


class Waiting:
    """One that waits, and knows of the others; each holds a lock on a file of its own, which ends with its process."""

    def __init__(self, job: Job) -> None:
        folder = job.workspace.scratch / "waiting"
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._job = folder, job.folder.name
        self.file = folder / f"{self._job}-{uuid.uuid4().hex}"

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """While the block runs no other is in such a block; whether nobody else waits for the job."""
        with (self._folder / f"{self._job}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            others = [file for file in self._folder.glob(f"{self._job}-*") if file != self.file and _is_held(file)]
            yield not others
            self.file.unlink(missing_ok=True)
            if not others:
                (self._folder / f"{self._job}.lock").unlink(missing_ok=True)


@contextmanager
def waiting_for(job: Job) -> Iterator[Waiting]:
    """Wait for a job while the block runs."""
    waiting = Waiting(job)
    with waiting.file.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield waiting
        finally:
            waiting.file.unlink(missing_ok=True)
            with suppress(OSError):  # others are there
                waiting.file.parent.rmdir()


def _is_held(file: Path) -> bool:
    """Whether the process that made it is there; the file of one that is not is cleared away."""
    try:
        with file.open("r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    file.unlink(missing_ok=True)
    return False
