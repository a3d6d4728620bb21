"""Several ranks on this machine, each a process, as `torchrun` starts them."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.multiprocessing as mp
from torch.distributed import TCPStore

from ocean_emulators.distributed import Ranks

Result = TypeVar("Result")
TIMEOUT_S = 60


def run_ranks(function: Callable[..., Result], n: int, *args: Any) -> list[Result]:
    """What `function(ranks, *args)` returns on each of n ranks, by rank.

    The function, its arguments and its results are pickled; the ranks are joined while it runs.

    Raises
    ------
    torch.multiprocessing.ProcessRaisedException
        With the traceback of the rank that failed first; the others are ended.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # picks a port, and holds it
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, (function, args, n, store.port, folder), nprocs=n)
        return [torch.load(_result(folder, rank), weights_only=False) for rank in range(n)]


def _rank(rank: int, function: Callable[..., Any], args: tuple[Any, ...], n: int, port: int, folder: str) -> None:
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(n),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is there already: no rank is to open one
    }
    torch.set_num_threads(1)
    ranks = Ranks.from_environment()
    with ranks.joined(torch.device("cpu"), TIMEOUT_S):
        torch.save(function(ranks, *args), _result(folder, rank))


def _result(folder: str, rank: int) -> Path:
    return Path(folder) / f"{rank}.pt"
