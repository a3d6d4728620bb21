"""Work as jobs of a SLURM cluster, through submitit."""

import math
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from launchers.config import Slurm
from launchers.estimate import evaluation_lines, training_lines
from launchers.partition import require_room
from launchers.queue import ask, state_of
from launchers.remote import HOLD_BACK_SIGNALS, RemoteWork
from launchers.submitted import Submitted, jobs_in, logs_of, one_at_a_time
from launchers.watch import follow, follow_all
from ocean_emulators.errors import UserError
from ocean_emulators.jobs.base import Job, results_of
from ocean_emulators.jobs.probe import ProbeJob
from ocean_emulators.jobs.train import TrainJob
from ocean_emulators.plan import Plan


@dataclass(frozen=True)
class Work:
    """Work for a cluster: `call` does it, in each process of a job, unless it was done before."""

    stage: str
    experiment: str
    job: Job
    call: Callable[[], None]
    plan: Callable[[], Plan] | None = None
    """makes that of the experiment, which takes seconds: asked for where it is told"""

    @property
    def shared(self) -> bool:
        """Whether several processes can do it together."""
        return self.stage in ("train", "probe")

    @property
    def logs(self) -> Path:
        """Where a cluster's jobs leave what they print."""
        return logs_of(self.job.workspace)


Mode = Literal["wait", "detach", "dry-run"]
"""Wait for the job; submit it and end the program; print what would be submitted and end it."""


def run_on_slurm(work: Work, config: Slurm, mode: Mode = "wait") -> None:
    """Have work done by a job, by one that does it already if there is one, and wait for it.

    Raises
    ------
    UserError
        If SLURM refuses the job, or it ends without results.
    Interrupted
        At Ctrl-C.
    """
    _require_shares(work, config)
    if mode == "dry-run":
        print(*plan_lines(work, config), "", batch_script(work, config), sep="\n")
        sys.exit()
    if results_of(work.job).is_dir():
        return
    job = find_or_submit(work, config)
    if mode == "detach":
        print(
            f"job {job.id} was submitted; `dvc repro` waits for it and takes its result, `ocean-emulators jobs` shows it"
        )
        sys.exit()
    follow(job, results_of(work.job))


def _require_shares(work: Work, config: Slurm) -> None:
    nodes, processes = _size(work, config)
    if isinstance(work.job, TrainJob | ProbeJob) and work.job.sections.train.batch_size < nodes * processes:
        raise UserError(
            f"launch configuration: nodes: {nodes}, processes: {processes}: {nodes * processes} processes can't share the "
            f"{work.job.sections.train.batch_size} window(s) of a batch (train.batch_size); use fewer, or larger batches"
        )


def find_or_submit(work: Work, config: Slurm) -> Submitted:
    """The job that does the work, submitted unless there is one.

    Raises
    ------
    UserError
        If SLURM refuses it.
    """
    with one_at_a_time(work.logs):
        known = _who_does(work)
        if known is not None:
            at = time.strftime("%F %T", time.localtime(known.at))
            print(f"job {known.id} does this already, since {at}", flush=True)
            return known
        print(*plan_lines(work, config), sep="\n", flush=True)
        with _refusals():
            submitted = _executor(work, config).submit(_remote(work, config))
        return _keep(work, config, submitted.job_id)


def submit_array(works: Sequence[Work], config: Slurm, at_once: int) -> None:
    """Submit equally large works that nobody does, and that are not done, as one array of jobs.

    Raises
    ------
    UserError
        If SLURM refuses it, or a batch can't be shared by so many processes.
    """
    for work in works:
        _require_shares(work, config)
    with one_at_a_time(works[0].logs):
        left = [work for work in works if not results_of(work.job).is_dir() and _who_does(work) is None]
        if not left:
            print("all are done, or are being done")
            return
        executor = _executor(left[0], config)
        executor.update_parameters(array_parallelism=at_once)
        print(f"{len(left)} of {len(works)} to do, each:", *plan_lines(left[0], config), sep="\n", flush=True)
        with _refusals(), executor.batch():
            submitted = [executor.submit(_remote(work, config)) for work in left]
        for work, job in zip(left, submitted, strict=True):
            _keep(work, config, job.job_id)


def run_array(works: Sequence[Work], config: Slurm, at_once: int) -> None:
    """Submit an array as `submit_array` does, and wait until all is done.

    Raises
    ------
    UserError
        If SLURM refuses it, or a job ends without results.
    Interrupted
        At Ctrl-C.
    """
    submit_array(works, config, at_once)
    left = [work for work in works if not results_of(work.job).is_dir()]
    follow_all({_jobs_of(work)[0]: results_of(work.job) for work in left})


def _jobs_of(work: Work) -> list[Submitted]:
    """The jobs that were to do the work, the newest first."""
    return [job for job in jobs_in(work.logs) if job.folder == work.job.folder]


def _who_does(work: Work) -> Submitted | None:
    """The job that does the work already, if any."""
    return next((job for job in _jobs_of(work) if not state_of(job.id).ended), None)


def _keep(work: Work, config: Slurm, number: str) -> Submitted:
    nodes, processes = _size(work, config)
    job = Submitted(
        id=number,
        experiment=work.experiment,
        stage=work.stage,
        processes=nodes * processes,
        folder=work.job.folder,
        at=time.time(),
        logs=work.logs,
    )
    job.save()
    return job


def plan_lines(work: Work, config: Slurm) -> list[str]:
    """What is asked of the cluster, what it has, and what the work will take.

    Raises
    ------
    UserError
        If the cluster has no place for it.
    """
    nodes, processes = _size(work, config)
    places = require_room(config.partition, nodes, config.hours)
    parts = [f"{nodes} node(s) with {processes} process(es) of {config.cpus} core(s)"]
    if config.gpus:
        hours = nodes * processes * config.gpus * config.hours
        parts.append(f"{config.gpus} GPU(s) each: at most {hours:,.4g} GPU hours between requeues")
    if config.memory_gib:
        parts.append(f"{config.memory_gib:g} GiB a node")
    where = f" in partition {config.partition}" if config.partition else ""
    return [
        f"{work.stage} of {work.experiment}: a SLURM job{where} of at most {config.hours:g} h: {', '.join(parts)}",
        *map(str, places),
        *_estimate(work, config),
        f"state and results: {work.job.folder}; logs: {work.logs}",
    ]


def _estimate(work: Work, config: Slurm) -> list[str]:
    match work.stage:
        case "train" if work.plan:
            return training_lines(work.plan(), config)
        case "evaluate" if work.plan:
            return evaluation_lines(work.plan())
        case _:
            return []


def batch_script(work: Work, config: Slurm) -> str:
    """What sbatch would be given."""
    executor = _executor(work, config)
    return executor._make_submission_file_text(executor._submitit_command_str, "")


def _remote(work: Work, config: Slurm) -> RemoteWork:
    code_now = partial(work.job.workspace.code_digest, "train" if work.stage == "probe" else work.stage)
    return RemoteWork(work.call, work.logs, config.requeues, config.network, code_now(), code_now)


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what sbatch complains of into one line."""
    try:
        yield
    except (FailedJobError, FailedSubmissionError) as error:
        told = re.findall(r"sbatch: (?:error: )?(.+)", str(error)) or [str(error)]
        raise UserError("SLURM refuses the job: " + "; ".join(dict.fromkeys(told))) from None


def _executor(work: Work, config: Slurm) -> submitit.SlurmExecutor:
    ask("sbatch", "--version")  # says what to do where there is no SLURM
    python = config.python or shlex.quote(sys.executable)
    command = f"{python} -S -c {shlex.quote(HOLD_BACK_SIGNALS)} {python}"
    executor = submitit.SlurmExecutor(
        work.logs, python=f"{config.container} {command}" if config.container else command
    )
    executor.update_parameters(**_parameters(work, config))
    return executor


def _size(work: Work, config: Slurm) -> tuple[int, int]:
    """Nodes, and processes on each."""
    return (config.nodes, config.processes) if work.shared else (1, 1)


def _parameters(work: Work, config: Slurm) -> dict[str, Any]:
    """In submitit's words."""
    nodes, processes = _size(work, config)
    asked = {
        "partition": config.partition,
        "account": config.account,
        "constraint": config.constraint,
        "qos": config.qos,
        "mem": None if config.memory_gib is None else f"{math.ceil(1024 * config.memory_gib)}M",
        "gpus_per_node": processes * config.gpus or None,
    }
    return {name: value for name, value in asked.items() if value is not None} | {
        "job_name": f"{work.experiment}-{work.stage}",
        "nodes": nodes,
        "ntasks_per_node": processes,
        "cpus_per_task": config.cpus,
        "time": math.ceil(60 * config.hours),
        "signal_delay_s": config.grace_s,
        "setup": list(config.setup),
        # A process that ends badly ends the others; and since SLURM 22.05 a step does not inherit its job's cores.
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={config.cpus}"],
        "additional_parameters": {
            "requeue": True,
            "chdir": str(work.job.workspace.root),
            **{name: value for name, value in config.options.items() if value is not False},
        },
    }
