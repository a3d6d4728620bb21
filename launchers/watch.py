"""Follows a job of a cluster until it has ended."""

import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from launchers.queue import GONE, JobState, ask, state_of
from launchers.remote import last_words
from launchers.submitted import Submitted
from ocean_emulators.errors import LOST, Interrupted, UserError
from ocean_emulators.programs import RESUME_ME

_POLL_S = (1.0, 15.0)
"""shortest and longest pause between questions to the cluster, which grows with the time that nothing has changed"""
_SILENCE_S = 1800.0
"""how long a cluster may give no answer"""
_LATE_S = 60.0
"""how long after a job's end its files may become visible here"""
_COMING_BACK_S = 300.0
"""how long a job that was preempted may take to be requeued"""
_LINES = 30
_NEW_S, _LAST_BYTES = 60.0, 4000
_SIGNALS = {"Killed": "SIGKILL", "Aborted": "SIGABRT", "Segmentation fault": "SIGSEGV", "Bus error": "SIGBUS"}
_WHY = {
    "CANCELLED": "was cancelled",
    "TIMEOUT": "was ended by its time limit before it could save its state; give it more `hours`, or a longer `grace_s`",
    "OUT_OF_MEMORY": "was ended because it took more memory than it had asked for; raise `memory_gib`, or train with smaller "
    "batches (`ocean-emulators check` says what they take)",
    "NODE_FAIL": "was ended because a node failed",
    "DEADLINE": "was ended by its deadline",
    "PREEMPTED": "was preempted, and the cluster did not requeue it",
    GONE.state: "is unknown to the cluster",
}


def follow(job: Submitted, results: Path) -> None:
    """Tell where a job is and what its first process prints, until its results are there.

    Raises
    ------
    UserError
        If it ends without, saying why.
    Interrupted
        At Ctrl-C, if the user leaves the job to itself or cancels it.
    """
    try:
        state = until_ended(job)
    except KeyboardInterrupt:
        raise Interrupted(_leave_or_cancel(job)) from None
    _require_results(job, state, results)


def _require_results(job: Submitted, state: JobState, results: Path) -> None:
    deadline = time.monotonic() + _LATE_S
    while state.state == "COMPLETED" and not results.is_dir() and time.monotonic() < deadline:
        time.sleep(0.5)
    if not results.is_dir():
        raise UserError(_explain(job, state))


def follow_all(jobs: Mapping[Submitted, Path]) -> None:
    """Tell where jobs are, until all have ended, and have left their results in a folder each.

    Raises
    ------
    UserError
        If one ends without: after the others have ended, saying why for each.
    Interrupted
        At Ctrl-C; the jobs go on.
    """
    try:
        ends = {job: until_ended(job, silent=True) for job in jobs}
    except KeyboardInterrupt:
        numbers = ", ".join(job.id for job in jobs)
        raise Interrupted(f"jobs {numbers} go on: run this again to wait for them") from None
    failures = []
    for job, results in jobs.items():
        try:
            _require_results(job, ends[job], results)
        except UserError as error:
            failures.append(str(error))
    if failures:
        raise UserError("\n".join(failures))


def until_ended(job: Submitted, silent: bool = False) -> JobState:
    """Tell where a job is and, unless `silent`, what its first process prints; the state that it has ended in.

    Raises
    ------
    UserError
        If the cluster has given no answer for long.
    """
    last, log, pause = JobState(""), _Tail(job), _POLL_S[0]
    silent_since = changed = time.monotonic()
    while True:
        try:
            state = state_of(job.id)
            silent_since = time.monotonic()
        except UserError:
            if time.monotonic() - silent_since > _SILENCE_S:
                raise
            state = last
        if state != last:
            print(f"job {job.id} ({job.stage}): {state}{_restarts(job, state)}", flush=True)
            last, pause, changed = state, _POLL_S[0], time.monotonic()
        if not silent and log.pass_on():
            pause = _POLL_S[0]
        if state.ended or (state.state == "PREEMPTED" and time.monotonic() - changed > _COMING_BACK_S):
            return state
        time.sleep(pause)
        pause = min(1.2 * pause, _POLL_S[1])


class _Tail:
    """Prints what a job's first process prints; of a job that has been there for long, the last of it first."""

    def __init__(self, job: Submitted) -> None:
        self.file, self.position = job.output, 0
        if self.file.exists() and time.time() - job.at > _NEW_S:
            self.position = max(0, self.file.stat().st_size - _LAST_BYTES)

    def pass_on(self) -> bool:
        """Whether there was anything new."""
        if not self.file.exists():
            return False
        with self.file.open("rb") as file:
            file.seek(self.position)
            new = file.read()
        self.position += len(new)
        sys.stdout.write(new.decode(errors="replace"))
        sys.stdout.flush()
        return bool(new)


def _explain(job: Submitted, state: JobState) -> str:
    kept = f"its logs are {job.logs}/{job.id}_*; what it has saved is kept, and `dvc repro` goes on from there"
    complaints = _complaints(job)
    killed = _killed(complaints)
    words = last_words(job.logs, job.id)
    if state.state in _WHY:
        return f"job {job.id} ({job.stage}) {_WHY[state.state]}; {kept}"
    # What others miss, or are told, is no cause; and who was killed may be of a run before the last.
    own = words is not None and words.code != RESUME_ME and LOST not in words.message
    if killed is not None and not own:
        rank, how = killed
        return f"process {rank + 1} of {job.processes} of job {job.id} ({job.stage}) was ended by {how}; {kept}"
    if words is not None and words.code != RESUME_ME:
        which = f"process {words.rank + 1} of {job.processes} of " if job.processes > 1 else ""
        return f"{which}job {job.id} ({job.stage}) has failed; {kept}:\n{words.message}"
    tail = "\n".join(complaints.splitlines()[-_LINES:])
    return f"job {job.id} ({job.stage}) has ended as {state}, without results; {kept}:\n{tail}"


def _restarts(job: Submitted, state: JobState) -> str:
    """How often a job was requeued, and why."""
    if not state.restarts:
        return ""
    why = _why_requeued(_complaints(job), state.restarts)
    return f", requeued {state.restarts} times so far" + (f", last after {why}" if why else "")


def _complaints(job: Submitted) -> str:
    return job.errors.read_text(errors="replace") if job.errors.exists() else ""


def _why_requeued(complaints: str, restarts: int) -> str:
    """What SLURM gave as the reason for a job's last restart; nothing where it did not say, as when its first node is lost."""
    reasons = re.findall(r"error: \*\*\* JOB .* CANCELLED AT \S+ DUE TO ([A-Z ]+)", complaints)
    return str(reasons[-1]).strip().lower() if reasons and len(reasons) == restarts else ""


def _killed(complaints: str) -> tuple[int, str] | None:
    """The rank of the process that a signal ended last, and which, if any; by what srun says of its tasks."""
    found = re.findall(r"srun: error: \S+: tasks? (\d+)\S*: (\w[\w ]*)", complaints)
    signals = [(int(rank), _SIGNALS[how.strip()]) for rank, how in found if how.strip() in _SIGNALS]
    return signals[-1] if signals else None


def _leave_or_cancel(job: Submitted) -> str:
    """Ask what is to become of a job; where nobody can be asked, it is left."""
    if sys.stdin is not None and sys.stdin.isatty():
        print(f"\njob {job.id} goes on. Cancel it? [y/N] ", end="", flush=True)
        try:
            if sys.stdin.readline().strip().lower() in ("y", "yes"):
                ask("scancel", job.id)
                return f"job {job.id} was cancelled; what it has saved is kept"
        except KeyboardInterrupt:
            pass
    return f"job {job.id} goes on: run the stage again to wait for it, `ocean-emulators jobs cancel {job.id}` ends it"
