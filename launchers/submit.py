"""Submits a job and waits for it."""

from collections.abc import Callable

import submitit

from launchers.config import LaunchConfig
from ocean_emulators.workspace import Workspace

_CLUSTERS = {"inline": "debug"}


def submit(work: Callable[[], None], config: LaunchConfig, workspace: Workspace) -> None:
    """Have `work`, which is picklable, done where the configuration says; what it raises is raised here."""
    executor = submitit.AutoExecutor(folder=workspace.scratch / "jobs", cluster=_CLUSTERS[config.where])
    job = executor.submit(work)
    # Not `result()`, which opens a debugger when an inline job fails.
    error = job.exception()
    if error is not None:
        raise error
