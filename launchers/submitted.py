"""Jobs that were submitted: a file for each, by which a stage that is run again finds its own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from ocean_emulators.files import write_text
from ocean_emulators.workspace import Workspace


@dataclass(frozen=True)
class Submitted:
    """A job of a cluster."""

    id: str
    """the cluster's number"""
    experiment: str
    stage: str
    processes: int
    folder: Path
    """of the work, see `Job.folder`: one for each combination of what its result depends on"""
    at: float
    """when, in seconds since 1970"""
    logs: Path
    """the folder that its logs, and what its processes say at their end, are in"""

    @property
    def output(self) -> Path:
        """What the first process prints."""
        return self.logs / f"{self.id}_0_log.out"

    @property
    def errors(self) -> Path:
        """What the first process, and the cluster, complain of."""
        return self.logs / f"{self.id}_0_log.err"

    def save(self) -> None:
        """Keep it."""
        write_text(self.logs / f"{self.id}.json", json.dumps(asdict(self), default=str, indent=1) + "\n")


def logs_of(workspace: Workspace) -> Path:
    """Where a project's jobs leave what they print, and are found again."""
    return workspace.scratch / "jobs"


def jobs_in(logs: Path) -> list[Submitted]:
    """All that were submitted from a project, the newest first."""
    found = []
    for file in logs.glob("*.json"):
        content = json.loads(file.read_text())
        found.append(Submitted(**content | {name: Path(content[name]) for name in ("folder", "logs")}))
    return sorted(found, key=lambda job: job.at, reverse=True)


@contextmanager
def one_at_a_time(logs: Path) -> Iterator[None]:
    """While the block runs no other process, on any machine that sees the folder, is in such a block."""
    logs.mkdir(parents=True, exist_ok=True)
    with FileLock(logs / "lock"):
        yield
