"""Submits a function and waits for it."""

from collections.abc import Callable

import submitit

from launchers.config import LaunchConfig
from ocean_emulators.runtime import Runtime
from ocean_emulators.tracking.provenance import project_root


def launch(function: Callable[[Runtime], None], config: LaunchConfig) -> None:
    """Run `function` where the configuration says and return when it is done; what it raises is raised here."""
    executor = submitit.AutoExecutor(folder=project_root() / ".scratch" / "jobs", cluster=_CLUSTERS[config.where])
    job = executor.submit(function, config.runtime)
    # Not `result()`, which opens a debugger when an inline job fails.
    error = job.exception()
    if error is not None:
        raise error


_CLUSTERS = {"inline": "debug"}
