"""States that a training can go on from, on the disk."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ocean_emulators.errors import UserError, brief
from ocean_emulators.files import PARTIAL
from ocean_emulators.tensors import load_tensors, save_tensors


class CheckpointStore:
    """The last few states of a training in a folder, each a file that was written whole; the newest whole one is loaded.

    They are written in the background, from a copy in memory, while training goes on. One that can't be written, such as on
    a full disk, is warned of; those before it stay.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    @property
    def files(self) -> list[Path]:
        """Of the saved states, the newest first."""
        return sorted(self.folder.glob("[0-9]*.pt"), reverse=True)

    def save(self, state: dict[str, Any], step: int) -> None:
        """Save the state after an optimiser step of that number; returns once it has been copied."""
        self.wait()
        copy = tree_map(lambda v: v.detach().to("cpu", copy=True) if isinstance(v, Tensor) else v, state)
        self._writing = self._thread.submit(self._write, copy, step)

    def wait(self, must: bool = False) -> None:
        """Until what was given last is on the disk.

        Raises
        ------
        UserError
            If it could not be written, and `must` be; else that is a warning.
        """
        if self._writing is None:
            return
        try:
            self._writing.result()
        except UserError as error:
            if must:
                raise
            print(
                f"warning: {error}; training goes on, and would resume from an earlier state",
                file=sys.stderr,
                flush=True,
            )
        finally:
            self._writing = None

    def _write(self, state: dict[str, Any], step: int) -> None:
        save_tensors(state, self.folder / f"{step:09d}.pt")
        for old in self.files[self.keep :]:
            old.unlink(missing_ok=True)

    def load_newest(self, accept: Callable[[dict[str, Any]], None]) -> Path | None:
        """Give the newest state to `accept`; one that is damaged, or that it raises an error for, is put aside.

        Returns the file of the one that was taken. What is put aside is warned of, and kept beside the others; what a process
        was killed in the midst of writing is cleared away.
        """
        for unfinished in self.folder.glob(f"*{PARTIAL}"):
            unfinished.unlink(missing_ok=True)
        for file in self.files:
            try:
                accept(load_tensors(file))
            except Exception as error:  # what a foreign file holds can fail in any way
                if isinstance(error.__cause__ or error, OSError | MemoryError | torch.OutOfMemoryError):
                    raise  # nothing is wrong with the state
                kept = file.with_name(f"damaged-{time.strftime('%Y%m%dT%H%M%S')}-{file.name}")
                file.rename(kept)
                what = brief(error).removeprefix(f"{file}: ")
                print(
                    f"warning: {file}: can't resume from it: {what}; it is kept as {kept.name} until the training is done, "
                    "which goes on from an earlier state, or begins anew",
                    file=sys.stderr,
                    flush=True,
                )
            else:
                return file
        return None
