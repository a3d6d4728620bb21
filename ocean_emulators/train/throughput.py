"""What the machine makes of a training: where an epoch's time goes, and its arithmetic beside the most that is possible.

Figures for the tracker: no result depends on them, and no state or history holds them.
"""

import time
from collections.abc import Callable

import torch

from ocean_emulators.models.base import Precision
from ocean_emulators.train.ledger import Ledger

_SIZES = {"cpu": 512, "cuda": 8192}
_REPEATS = 5


class Throughput:
    """Counts the arithmetic of one rank, and divides it by the time that its computation took.

    A multiplication and an addition are two. What activation checkpointing computes again counts, as in `Cost`; the
    optimiser does not. To know what a model step costs takes seconds, which a short training does not spend: arithmetic is
    told of once there have been `after_s` seconds of computation.
    """

    def __init__(self, flops: Callable[[str], int], peak: Callable[[], float], after_s: float = 300.0) -> None:
        """`flops`: of a forward and a backward pass of a model step on one window, by the name of its grid; `peak`: makes
        the most that the device does in a second. Each is asked once."""
        self._flops, self._peak, self.after_s = flops, peak, after_s
        self._flops_known: dict[str, int] = {}
        self._peak_known: float | None = None
        self._before: dict[str, float] = {}
        self._steps: dict[str, int] = {}

    def begin(self) -> None:
        """Training begins: nothing else computes yet, so that the device's peak can be timed."""
        self._peak_known = self._peak()

    def count(self, grid: str, model_steps: int) -> None:
        """So many model steps of windows were trained on."""
        self._steps[grid] = self._steps.get(grid, 0) + model_steps

    def logs(self, ledger: Ledger) -> dict[str, float]:
        """Of the time since this was last asked for: seconds by what they were spent on, and arithmetic per second."""
        accounts = ledger.accounts()
        spent = {part: seconds - self._before.get(part, 0.0) for part, seconds in accounts.items()}
        logs = {f"train/time/{part}": seconds for part, seconds in spent.items()}
        if self._steps and accounts["compute"] >= self.after_s:
            speed = sum(map(self._arithmetic_of, self._steps)) / spent["compute"]
            logs["train/compute/flops_per_second"] = speed
            if self._peak_known:
                logs["train/compute/share_of_peak"] = speed / self._peak_known
        self._before, self._steps = accounts, {}
        return logs

    def _arithmetic_of(self, grid: str) -> int:
        if grid not in self._flops_known:
            self._flops_known[grid] = self._flops(grid)
        return self._steps[grid] * self._flops_known[grid]


def peak_flops_per_second(device: torch.device, precision: Precision, size: int | None = None) -> float:
    """Of a product of square matrices in the model's precision (float32 with TF32, where that is allowed): the best of some."""
    n = size or _SIZES[device.type]
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(n, n, generator=generator, device=device).to(getattr(torch, precision)) for _ in range(2))
    out = a @ b
    return 2 * n**3 / min(_seconds(lambda: torch.mm(a, b, out=out), device) for _ in range(_REPEATS))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    _wait_for(device)
    began = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - began


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
