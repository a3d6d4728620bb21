"""What a cluster's job does, in each of its processes."""

import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import submitit

from launchers.queue import ask, node_timeout_s, state_of
from ocean_emulators.errors import LOST, Interrupted, UserError, mask
from ocean_emulators.files import write_text
from ocean_emulators.programs import RESUME_ME, USER_ERROR, interrupt

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
HOLD_BACK_SIGNALS = f"""
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {[int(number) for number in _SIGNALS]})
os.execvp(sys.argv[1], sys.argv[1:])
""".strip().replace("\n", "; ")
"""A program that becomes another one, for which signals wait: else they would end it while it is still being imported."""
_TERMINATED = signal.SIGTERM.name
_FIRST_PORT, _PORTS = 20_000, 12_768
"""Below those that Linux gives to whoever asks for any."""
_UNTIL_ENDED_S = 120.0


@dataclass(frozen=True)
class LastWords:
    """How a process of a job has ended, where that was badly."""

    rank: int
    at: float
    """seconds since 1970"""
    code: int
    """see `programs`; `RESUME_ME` where it was interrupted"""
    message: str

    def save(self, logs: Path, job: str) -> None:
        """Leave them where `last_words` looks."""
        write_text(_words_file(logs, job, self.rank), json.dumps(asdict(self)) + "\n")


def _words_file(logs: Path, job: str, rank: int) -> Path:
    return logs / f"{job}_{rank}.end"


def last_words(logs: Path, job: str) -> LastWords | None:
    """Of the process of a job that ended first, unless all that is known is that it was interrupted."""
    found = [LastWords(**json.loads(file.read_text())) for file in logs.glob(f"{job}_*.end")]
    return min(found, key=lambda words: (words.code == RESUME_ME, words.at), default=None)


@dataclass(frozen=True)
class RemoteWork:
    """Work for a job of a cluster; picklable, with all that it needs, and called in each of its processes."""

    work: Callable[[], None]
    logs: Path
    requeues: int
    """how often the job may be requeued"""
    network: str | None
    """interface that several nodes talk through"""
    code: str
    """digest of the code that it was submitted with"""
    code_now: Callable[[], str]

    def __call__(self) -> None:
        """Do the work; where it is interrupted, have the job requeued, which goes on where it was."""
        job = submitit.JobEnvironment()
        _words_file(self.logs, job.job_id, job.global_rank).unlink(
            missing_ok=True
        )  # of a run that a node's failure ended
        for number in _SIGNALS:
            signal.signal(number, interrupt)
        if job.global_rank == 0 and self.code_now() != self.code:
            print(
                "warning: the code was changed since this job was submitted, and is run as it is now", file=sys.stderr
            )
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # what came while this process started comes now
            os.environ |= _rank_variables(job) | _network_variables(job, self.network)
            self.work()
        except Interrupted as stopped:
            self._go_again(job, stopped)
        except UserError as error:
            if LOST in str(error) and job.num_nodes > 1:
                _let_slurm_see(error)
            self._end(job, USER_ERROR, f"error: {error}")
        except Exception:
            self._end(job, 1, mask(traceback.format_exc()).rstrip())

    def _go_again(self, job: submitit.JobEnvironment, stopped: Interrupted) -> None:
        print(f"interrupted: {stopped}", file=sys.stderr, flush=True)
        if job.global_rank:
            return  # the first process has it requeued, which ends this one
        state = state_of(job.job_id)
        # Else it was cancelled, or another process has failed, whose end ends all.
        if state.state != "RUNNING" or (_TERMINATED in str(stopped) and not state.preempted):
            self._end(job, RESUME_ME, f"interrupted: {stopped}")
        if state.restarts >= self.requeues:
            self._end(
                job,
                USER_ERROR,
                f"error: {stopped}; it was requeued {state.restarts} times, as often as `requeues` allows",
            )
        told = ask("scontrol", "requeue", job.job_id)
        if told.returncode:
            self._end(job, USER_ERROR, f"error: {stopped}; SLURM does not requeue the job: {told.stderr.strip()}")
        time.sleep(_UNTIL_ENDED_S)  # SLURM ends this process first

    def _end(self, job: submitit.JobEnvironment, code: int, message: str) -> None:
        print(message, file=sys.stderr, flush=True)
        LastWords(job.global_rank, time.time(), code, message).save(self.logs, job.job_id)
        sys.exit(code)


def _let_slurm_see(error: UserError) -> None:
    """Wait until SLURM has ended this process, for another that has failed, or for a node: then the job is requeued.

    Who ends before that has SLURM tell the lost node to end the step, which it does when it is back: to the next run's.
    """
    seconds = 1.2 * node_timeout_s()
    print(f"{error}; SLURM has {seconds:.0f} s to see whether a node has failed", file=sys.stderr, flush=True)
    with suppress(Interrupted):
        time.sleep(seconds)


def _rank_variables(job: submitit.JobEnvironment) -> dict[str, str]:
    """As `torchrun` sets them; none for a process that is alone."""
    if job.num_tasks == 1:
        return {}
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
    return {
        "RANK": str(job.global_rank),
        "WORLD_SIZE": str(job.num_tasks),
        "LOCAL_RANK": "0" if _has_its_own_gpu() else str(job.local_rank),
        "MASTER_ADDR": "127.0.0.1" if job.num_nodes == 1 else job.hostnames[0],
        "MASTER_PORT": str(_port(int(job.raw_job_id), restarts)),
    }


def _port(job: int, restarts: int) -> int:
    """Where the processes of a job meet; another after each restart, so that they do not meet what is left of the last run."""
    return _FIRST_PORT + (job * 101 + restarts) % _PORTS


def _network_variables(job: submitit.JobEnvironment, network: str | None) -> dict[str, str]:
    """For NCCL and gloo; set here, since a container need not pass on what the batch script exports."""
    if network is None or job.num_nodes == 1:
        return {}
    families = (socket.AF_INET, socket.AF_INET6)
    known = [name for name, found in psutil.net_if_addrs().items() if any(each.family in families for each in found)]
    if network not in known:
        raise UserError(
            f"launch configuration: network: {network}: node {job.hostname} has no such interface with an address; it has "
            f"{', '.join(known)}"
        )
    return {"NCCL_SOCKET_IFNAME": f"={network}", "GLOO_SOCKET_IFNAME": network}  # `=`: not what begins like it, too


def _has_its_own_gpu() -> bool:
    """Whether the cluster shows each process one GPU alone, which is then the first that it sees."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return bool(shown) and "," not in shown
