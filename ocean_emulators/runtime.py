"""Device, threads and caches: none is a param, because none changes a result beyond rounding."""

import os
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

    tf32: bool = True
    """let a GPU multiply float32 with 10 binary digits after the point in convolutions and products, which is several
    times faster; no CPU does"""
    cudnn_benchmark: bool = False
    """have a GPU time several algorithms for each convolution when it first meets it, and use the fastest: a fifth faster in
    bfloat16, after 10 to 80 seconds for each grid and batch size; in float32 the trials take whatever memory is free"""
    deterministic: bool = False
    """have a GPU compute in one order, so that a training that is resumed is equal to the bit there, too; slower. A CPU
    always does"""
    checkpoint_minutes: float = Field(10.0, gt=0, le=100_000)
    """how often training saves its state, beside the end of each epoch; what an interruption by force can cost"""
    checkpoint_steps: int | None = Field(None, ge=1, le=1_000_000_000)
    """the same in optimiser steps; null saves by the clock alone"""
    checkpoints_kept: int = Field(2, ge=1, le=1000)
    """how many of these states are kept"""
    log_steps: int | None = Field(None, ge=1, le=1_000_000_000)
    """optimiser steps between records of the mean loss of each channel, variable and level since the last; null leaves it
    at those of epochs"""
    patience_s: float = Field(600.0, ge=1, le=1e6)
    """how long a process waits for the others that train with it, until it ends"""
    repeat_batch: bool = False
    """train one epoch on its first batch again and again, say how fast that was, and end without results: what is gained over
    an ordinary epoch is what loading costs"""
    profile: bool = False
    """trace a few training steps by torch's profiler, into trace.json in the job's folder; the path is printed"""

    def start(self, local_rank: int = 0) -> torch.device:
        """Set the process up and return the device to compute on, the GPU of its number on this machine.

        Raises
        ------
        UserError
            If it is not there.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("runtime.device: cuda, but torch sees no GPU; use auto or cpu")
        torch.set_num_threads(self.threads)
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which cuBLAS asks for
            torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = self.cudnn_benchmark and not self.deterministic
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        if self.device == "cpu" or not torch.cuda.is_available():
            return torch.device("cpu")
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"this is process {local_rank + 1} of this machine, which has {torch.cuda.device_count()} GPU(s): start one "
                "process for each GPU, or set runtime.device: cpu"
            )
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)
