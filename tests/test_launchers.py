"""Launchers, as far as no cluster is needed: combinations of a sweep, and what is read off SLURM's words."""

from pathlib import Path

import pytest

from launchers.queue import JobState, _of_controller
from launchers.remote import LastWords, _port, last_words
from launchers.submitted import Submitted, jobs_in
from launchers.sweep import combinations
from launchers.watch import _killed, _why_requeued
from ocean_emulators.errors import UserError
from ocean_emulators.programs import RESUME_ME


def test_a_sweep_is_all_combinations() -> None:
    found = combinations(["train.seed=1,2", "train.rollout_steps=[1,2],[4]", "model={norm: none, expansion: 1}"])
    assert found == [
        [f"train.seed={seed}", f"train.rollout_steps={steps}", "model={norm: none, expansion: 1}"]
        for seed in (1, 2)
        for steps in ("[1,2]", "[4]")
    ]


@pytest.mark.parametrize("override", ["train.seed", "data.levels=[0],[1]"])
def test_a_sweep_of_nothing_or_of_data_is_refused(override: str) -> None:
    with pytest.raises(UserError, match="sweep: "):
        combinations([override])


@pytest.mark.parametrize(
    ("text", "state", "ended", "told"),
    [
        ("JobId=3 JobState=RUNNING Reason=None Restarts=0 PreemptTime=None", "RUNNING", False, "running"),
        ("JobState=PENDING Reason=ReqNodeNotAvail,_x Restarts=2", "PENDING", False, "pending (ReqNodeNotAvail, x)"),
        ("JobState=PREEMPTED Reason=None Restarts=1", "PREEMPTED", False, "preempted"),
        ("JobState=NODE_FAIL Reason=NodeDown Restarts=0", "NODE_FAIL", True, "node fail (NodeDown)"),
        ("JobState=OUT_OF_MEMORY Reason=None Restarts=0\nJobState=RUNNING", "OUT_OF_MEMORY", True, "out of memory"),
    ],
)
def test_states_are_told_apart(text: str, state: str, ended: bool, told: str) -> None:
    found = _of_controller(text)
    assert (found.state, found.ended, str(found)) == (state, ended, told)


def test_a_preemption_is_known_by_its_time() -> None:
    assert _of_controller("JobState=RUNNING PreemptTime=2026-01-01T00:00:00").preempted
    assert not JobState("RUNNING").preempted


@pytest.mark.parametrize(
    ("complaints", "killed"),
    [
        ("srun: error: node7: task 3: Killed\nsrun: error: node6: task 0: Exited with exit code 2", (3, "SIGKILL")),
        ("srun: error: node7: tasks 1-3: Segmentation fault (core dumped)", (1, "SIGSEGV")),
        ("srun: error: node7: task 0: Exited with exit code 1\nsrun: error: node7: task 1: Terminated", None),
        ("", None),
    ],
)
def test_who_was_killed_is_read_off_srun(complaints: str, killed: tuple[int, str] | None) -> None:
    assert _killed(complaints) == killed


PREEMPTED = "slurmstepd-n1: error: *** JOB 4 ON n1 CANCELLED AT 2026-01-01T08:00:00 DUE TO PREEMPTION ***\n"
FAILED = (
    "slurmstepd-n1: error: *** STEP 4.0 ON n1 CANCELLED AT 2026-01-01T09:00:00 DUE TO NODE FAILURE, SEE SLURMCTLD LOG ***\n"
    "slurmstepd-n1: error: *** JOB 4 ON n1 CANCELLED AT 2026-01-01T09:00:00 DUE TO NODE FAILURE, SEE SLURMCTLD LOG ***\n"
)


@pytest.mark.parametrize(
    ("complaints", "restarts", "why"),
    [
        (PREEMPTED + FAILED, 2, "node failure"),
        (FAILED + PREEMPTED, 2, "preemption"),
        (PREEMPTED, 2, ""),
        ("", 1, ""),
        ("", 0, ""),
    ],
)
def test_why_a_job_was_requeued_is_read_off_slurm(complaints: str, restarts: int, why: str) -> None:
    """But for the restart that nobody was left to tell of."""
    assert _why_requeued(complaints, restarts) == why


def test_jobs_and_their_restarts_meet_at_ports_of_their_own() -> None:
    """From 32768 on, Linux gives ports to whoever asks for any."""
    ports = [_port(job, restarts) for job in range(1000, 1100) for restarts in range(51)]
    assert len(set(ports)) == len(ports)
    assert min(ports) >= 1024
    assert max(_port(job, 0) for job in range(40_000)) < 32_768


def test_the_first_to_fail_has_the_word(tmp_path: Path) -> None:
    assert last_words(tmp_path, "7") is None
    for rank, at, code in ((0, 1.0, RESUME_ME), (1, 3.0, 2), (2, 2.0, 1)):
        LastWords(rank, at, code, f"of {rank}").save(tmp_path, "7")
    words = last_words(tmp_path, "7")
    assert words is not None
    assert words.message == "of 2"


def test_jobs_are_found_again_the_newest_first(tmp_path: Path) -> None:
    jobs = [Submitted(f"5_{k}", "tiny", "train", 2, tmp_path / "work", float(k), tmp_path) for k in range(3)]
    for job in jobs:
        job.save()
    LastWords(0, 1.0, 2, "no job").save(tmp_path, "5_0")
    assert jobs_in(tmp_path) == jobs[::-1]
