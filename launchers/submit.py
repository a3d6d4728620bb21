"""Has jobs done where the launch configuration says, and waits for them."""

from collections.abc import Callable, Sequence

import submitit

from launchers.config import LaunchConfig, Local, Slurm
from launchers.local import run_on_ranks
from launchers.slurm import Mode, Work, run_array, run_on_slurm
from ocean_emulators.distributed import Ranks


def submit(work: Work, config: LaunchConfig, mode: Mode = "wait") -> None:
    """Have work, which is picklable, done; what it raises is raised here."""
    if isinstance(config, Slurm) and config.submits(work.stage):
        run_on_slurm(work, config, mode)
    elif isinstance(config, Local) and work.shared and Ranks.from_environment().world_size == 1:
        run_on_ranks(work.call, config.processes, work.logs)
    else:
        _run_here(work.call, work)


def submit_all(works: Sequence[Work], config: LaunchConfig, at_once: int) -> None:
    """Have works of one stage done: on a cluster side by side, as an array of jobs of which so many run at once."""
    if isinstance(config, Slurm) and config.submits(works[0].stage):
        run_array(works, config, at_once)
    else:
        for work in works:
            submit(work, config)


def _run_here(call: Callable[[], None], work: Work) -> None:
    job = submitit.AutoExecutor(folder=work.logs, cluster="debug").submit(call)
    # Not `result()`, which opens a debugger when an inline job fails.
    error = job.exception()
    if error is not None:
        raise error
