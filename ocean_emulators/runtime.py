"""Device, threads and caches: none is a param, because none changes a result beyond rounding."""

from typing import Literal

import torch
from pydantic import Field

from ocean_emulators.config.base import Config
from ocean_emulators.errors import UserError


class Runtime(Config):
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """what to compute on; auto takes a GPU where there is one"""
    threads: int = Field(1, ge=1, le=1024)
    """CPU threads of a process; with one, results are the same to the bit on any number of cores. Two take a third off a
    step on idle cores, but multiply it as soon as another process wants one of them: OpenMP's threads wait by spinning"""
    cache: Literal["none", "host", "device"] = "host"
    """where training data are held once read: nowhere, in the machine's memory, or on the device"""
    prefetch: int = Field(1, ge=0, le=1024)
    """batches made ahead of their use, each by a thread of its own"""

    def start(self) -> torch.device:
        """Set the process up and return the device to compute on.

        Raises
        ------
        UserError
            If it is not there.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("runtime.device: cuda, but torch sees no GPU; use auto or cpu")
        torch.set_num_threads(self.threads)
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)
