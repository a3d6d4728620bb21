"""What the work takes of the machine, sampled while it runs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from ocean_emulators.tracking.record import now
from ocean_emulators.tracking.writing import Record

_EVERY_S = 15.0


@contextmanager
def sampling(record: Record, every_s: float = _EVERY_S) -> Iterator[None]:
    """Sample the machine into a record while a block runs; the step is the age of the record in seconds."""
    over = threading.Event()

    def sample() -> None:
        while not over.wait(every_s):
            record.log_metrics(_figures(), (now() - record.about.begun) // 1000)

    thread = threading.Thread(target=sample, name="machine", daemon=True)
    psutil.cpu_percent()  # what is asked next is of the time since
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _figures() -> dict[str, float]:
    """Of the machine, and the memory of this process."""
    figures = {
        "system/cpu_percent": psutil.cpu_percent(),
        "system/memory_percent": psutil.virtual_memory().percent,
        "system/process_memory_gib": psutil.Process().memory_info().rss / 2**30,
    }
    if torch.cuda.is_initialized():
        free, total = torch.cuda.mem_get_info()
        figures["system/gpu_memory_gib"] = (total - free) / 2**30
        figures["system/gpu_memory_allocated_gib"] = torch.cuda.memory_allocated() / 2**30
    return figures
