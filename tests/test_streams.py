"""Programs whose readers go away: commands end quietly, stages run on. Real pipes, real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRINTS = "for _ in range(20_000): print('a line of text')"


COMMAND = "from ocean_emulators.programs import ending_well\nwith ending_well():\n    {}"


def run(code: str, tmp_path: Path, *, closed: str, unbuffered: str = "") -> tuple[int, str]:
    """Exit code and messages of a program of which nobody reads what it prints (or, as well, its messages)."""
    read, write = os.pipe()
    os.close(read)
    messages = tmp_path / "messages"
    with messages.open("w") as file:
        stderr = write if closed == "both" else file
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, stdout=write, stderr=stderr, cwd=tmp_path, env=environment, timeout=60)
    os.close(write)
    return done.returncode, messages.read_text()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("code", [PRINTS, "print('little')"])
def test_a_command_whose_reader_goes_away_ends_quietly(code: str, unbuffered: str, tmp_path: Path) -> None:
    assert run(COMMAND.format(code), tmp_path, closed="output", unbuffered=unbuffered) == (141, "")


def test_a_broken_connection_is_no_reader_that_went_away(tmp_path: Path) -> None:
    program = COMMAND.format("raise BrokenPipeError('S3')")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "BrokenPipeError: S3" in done.stderr


def test_a_broken_connection_is_told_where_there_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(COMMAND.format("raise BrokenPipeError('S3')"))
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} program.py >&-"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("BrokenPipeError: S3")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("closed", ["output", "both"])
def test_a_stage_whose_reader_goes_away_runs_on(closed: str, unbuffered: str, tmp_path: Path) -> None:
    program = f"""
import os, sys, pathlib
from tqdm import tqdm
from ocean_emulators.programs import ending_well
from ocean_emulators.streams import outliving_readers
with outliving_readers(), ending_well():
    {PRINTS}
    for _ in tqdm(range(100), disable=None, mininterval=0): print("x", file=sys.stderr, flush=True)
    os.system("echo a child")
    {PRINTS}
    pathlib.Path("done").touch()
"""
    code, messages = run(program, tmp_path, closed=closed, unbuffered=unbuffered)
    assert code == 0
    assert "Error" not in messages
    assert (tmp_path / "done").exists()


def test_a_stage_without_streams_runs(tmp_path: Path) -> None:
    program = f"""
import pathlib, sys
from tqdm import tqdm
from ocean_emulators.programs import ending_well
from ocean_emulators.streams import outliving_readers
with outliving_readers(), ending_well():
    {PRINTS}
    for _ in tqdm(range(10), disable=None): pass
    pathlib.Path("done").touch()
"""
    (tmp_path / "program.py").write_text(program)
    subprocess.run(["sh", "-c", f"{sys.executable} program.py >&- 2>&-"], cwd=tmp_path, timeout=60, check=True)
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("arguments", [[], ["tain"], ["train", "evaluate"]])
def test_a_stage_that_is_not_named_ends_in_the_usage(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "launchers", *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "usage: python -m launchers" in done.stderr
    assert "Traceback" not in done.stderr


def test_streams_are_open_afterwards() -> None:
    program = """
import gc, sys
from ocean_emulators.streams import outliving_readers
for _ in range(2):
    with outliving_readers():
        print("within")
    gc.collect()
print("after")
print("after", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("within\nwithin\nafter\n", "after\n")
