"""Several processes on this machine that do a job together, one for each rank."""

import logging
import os
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ocean_emulators.distributed import Ranks
from ocean_emulators.programs import INTERRUPTED, RESUME_ME, USER_ERROR, ending_well
from ocean_emulators.streams import outliving_readers

_TOLD = (USER_ERROR, INTERRUPTED, RESUME_ME)
_LINES = 30
_LOGGERS = (
    "torch.multiprocessing.spawn",
    "torch.distributed.elastic.multiprocessing.api",
    "torch.distributed.elastic.agent.server.api",
)
"""Of torch, which would tell at length what `_tell` says, and import its compiler, which takes seconds, to do so."""
_PASSED_ON = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2"
"""Signals that reach the ranks when this process gets them, in the agent's notation."""


def run_on_ranks(work: Callable[[], None], processes: int, folder: Path) -> None:
    """Run picklable work in so many processes, which find RANK, WORLD_SIZE and LOCAL_RANK in their environment.

    By torch's elastic agent, which is what `torchrun` is: when one ends badly the others are ended, unlike by submitit's
    executor. What the first rank prints is seen here; what the others print is below `folder`. Ends the program as the first
    rank to fail has ended.
    """
    for name in _LOGGERS:
        logging.getLogger(name).disabled = True
    logs = folder / time.strftime("%Y%m%dT%H%M%S")
    logs.mkdir(parents=True, exist_ok=True)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.02,  # s; so that the rank that failed is seen before those that then miss it
        signals_to_handle=_PASSED_ON,
        start_method="spawn",
        logs_specs=DefaultLogsSpecs(str(logs), redirects=dict.fromkeys(range(1, processes), Std.ALL)),
    )
    try:
        elastic_launch(config, _one_rank)(work)
    except SignalException:
        sys.exit(RESUME_ME)  # the first rank has said where it stands
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        _tell(rank, failure, processes, logs)
        sys.exit(failure.exitcode if failure.exitcode in _TOLD else 1)


def _one_rank(work: Callable[[], None]) -> None:
    try:
        with outliving_readers(), ending_well("`dvc repro` goes on where it was"):
            work()
    except SystemExit as end:
        if not Ranks.from_environment().first:
            os._exit(int(end.code or 0))  # else it is 1, whatever it was, where torch leads the output to a file
        raise


def _tell(rank: int, failure: ProcessFailure, processes: int, logs: Path) -> None:
    """Say which process failed first, unless the first rank has said all."""
    if rank == 0 and failure.exitcode in _TOLD:
        return
    how = f"was ended by {failure.signal_name()}" if failure.exitcode < 0 else f"failed with {failure.exitcode}"
    print(f"error: process {rank + 1} of {processes} {how}; the others were ended", file=sys.stderr)
    for log in sorted(logs.glob(f"**/{rank}/stderr.log")):
        print(*log.read_text(errors="replace").splitlines()[-_LINES:], sep="\n", file=sys.stderr)
