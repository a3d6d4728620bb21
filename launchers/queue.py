"""What SLURM says of a job."""

import re
import shutil
import subprocess
from dataclasses import dataclass

from ocean_emulators.errors import UserError

_TIMEOUT_S = 60
_USUAL_NODE_TIMEOUT_S = 300
_WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESIZING"}
_RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"}
_COMING_BACK = {"PREEMPTED"}
"""What submitit takes for an end: SLURM requeues the job, or cancels it, a moment later."""


@dataclass(frozen=True)
class JobState:
    """Of a job: `state` in SLURM's words, or GONE where SLURM no longer knows it, and why it is there."""

    state: str
    reason: str = ""
    restarts: int = 0
    preempted: bool = False
    """whether it is about to be ended for another job"""

    @property
    def ended(self) -> bool:
        """Whether it will not run any more."""
        return self.state not in _WAITING | _RUNNING | _COMING_BACK

    def __str__(self) -> str:
        """As it is told."""
        reason = f" ({self.reason.replace('_', ' ')})" if self.reason not in ("", "None") else ""
        return self.state.lower().replace("_", " ") + reason


GONE = JobState("GONE")


def state_of(job_id: str) -> JobState:
    """The state of a job, also of one that has ended, as long as SLURM or its accounting remembers it.

    Raises
    ------
    UserError
        If SLURM does not answer.
    """
    shown = ask("scontrol", "--oneliner", "show", "job", job_id)
    if shown.returncode == 0:
        return _of_controller(shown.stdout)
    if "Invalid job id" not in shown.stderr:
        raise UserError(f"SLURM does not answer: {shown.stderr.strip() or shown.stdout.strip()}")
    told = ask("sacct", "--noheader", "--parsable2", "--allocations", "--format", "State", "--jobs", job_id)
    state = told.stdout.split()
    return JobState(state[0].rstrip("+")) if told.returncode == 0 and state else GONE


def _of_controller(text: str) -> JobState:
    """Of what `scontrol show job` says; of an array's jobs, the first."""
    found = dict(re.findall(r"(\w+)=(\S*)", text.splitlines()[0]))
    preempted = found.get("PreemptTime", "None") != "None"
    return JobState(found["JobState"], found.get("Reason", ""), int(found.get("Restarts", 0)), preempted)


def node_timeout_s() -> int:
    """After how long without an answer SLURM gives a node up."""
    found = re.search(r"SlurmdTimeout\s*=\s*(\d+)", ask("scontrol", "show", "config").stdout)
    return int(found[1]) if found else _USUAL_NODE_TIMEOUT_S


def ask(*command: str) -> "subprocess.CompletedProcess[str]":
    """Run one of SLURM's programs.

    Raises
    ------
    UserError
        If it is not installed here, or does not come back.
    """
    if shutil.which(command[0]) is None:
        raise UserError(
            f"{command[0]}: no such program here: jobs are submitted from a machine of a SLURM cluster, such as its "
            "login node; elsewhere use configs/launch/local.yaml"
        )
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(f"SLURM does not answer: {' '.join(command)} took more than {_TIMEOUT_S} s") from None
