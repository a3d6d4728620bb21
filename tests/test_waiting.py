"""Several who wait for one job: each gets its results, and the last one tidies up."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ocean_emulators.stages.waiting import waiting_for


def job_in(root: Path) -> Any:
    return SimpleNamespace(workspace=SimpleNamespace(scratch=root), folder=root / "train-abc")


def test_the_last_is_alone(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    with waiting_for(job) as first, waiting_for(job) as second:
        with first.alone() as alone:
            assert not alone
        with second.alone() as alone:
            assert alone
    assert not list(tmp_path.iterdir())


def test_one_that_waits_for_another_job_does_not_count(tmp_path: Path) -> None:
    other = job_in(tmp_path)
    other.folder = tmp_path / "train-abcd"
    with waiting_for(other), waiting_for(job_in(tmp_path)) as waiting, waiting.alone() as alone:
        assert alone


def test_one_that_was_killed_does_not_count(tmp_path: Path) -> None:
    program = f"""
import os
from pathlib import Path
from ocean_emulators.stages.waiting import waiting_for
from tests.test_waiting import job_in
with waiting_for(job_in(Path({str(tmp_path)!r}))):
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[1])
    assert list((tmp_path / "waiting").iterdir())
    with waiting_for(job_in(tmp_path)) as waiting, waiting.alone() as alone:
        assert alone
    assert not list(tmp_path.iterdir())
