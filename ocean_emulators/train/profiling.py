"""A trace of a few training steps, for `chrome://tracing` or Perfetto."""

from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

_SKIPPED, _WARM_UP, _TRACED = 2, 1, 3


class StepProfile:
    """Traces three steps, after the first three, where it is given a file to write to."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self._profile: Any = None

    def __enter__(self) -> "StepProfile":
        if self.file is not None:
            activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
            self._profile = profile(
                activities=activities,
                schedule=schedule(wait=_SKIPPED, warmup=_WARM_UP, active=_TRACED, repeat=1),
                on_trace_ready=self._write,
                record_shapes=True,
                acc_events=True,
            )
            self._profile.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def step(self) -> None:
        """An optimiser step is done."""
        if self._profile is not None:
            self._profile.step()

    def _end(self) -> None:
        if self._profile is not None:
            self._profile.__exit__(None, None, None)
            self._profile = None

    def _write(self, trace: Any) -> None:
        assert self.file is not None
        self.file.parent.mkdir(parents=True, exist_ok=True)
        trace.export_chrome_trace(str(self.file))
        print(f"trace of {_TRACED} steps: {self.file} (https://ui.perfetto.dev shows it)", flush=True)
