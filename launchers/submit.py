"""Submits a job and waits for it."""

import submitit

from launchers.config import LaunchConfig
from launchers.jobs import TrackedJob
from launchers.local import run_on_ranks
from ocean_emulators.distributed import Ranks


def submit(work: TrackedJob, config: LaunchConfig) -> None:
    """Have a job, which is picklable, done where the configuration says; what it raises is raised here."""
    folder = work.job.workspace.scratch / "jobs"
    if config.where == "local" and work.shared and Ranks.from_environment().world_size == 1:
        run_on_ranks(work, config.processes, folder)
        return
    job = submitit.AutoExecutor(folder=folder, cluster="debug").submit(work)
    # Not `result()`, which opens a debugger when an inline job fails.
    error = job.exception()
    if error is not None:
        raise error
