"""How a training tells where it is: a bar in a terminal, a line now and then in a log."""

import sys
import time
from typing import Any

from tqdm import tqdm

from ocean_emulators.train.ledger import Ledger

_LINE_EVERY_S = 60.0


class Progress:
    """Of one epoch; the first rank tells it."""

    def __init__(self, title: str, batches: int, done: int, ledger: Ledger, shown: bool = True) -> None:
        self.title, self.batches, self.done, self.ledger, self.shown = title, batches, done, ledger, shown
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self._bar: Any = (
            tqdm(total=batches, initial=done, desc=title, unit="batch", leave=False) if (shown and terminal) else None
        )
        self._first, self._samples = done, 0
        self._began = self._told = time.perf_counter()
        self._waited = ledger.seconds["data"]

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def due(self) -> bool:
        """Whether it is time to say something: the loss is asked for only then, because a device has to be waited for."""
        pause = 1.0 if self._bar is not None else _LINE_EVERY_S
        return self.shown and time.perf_counter() - self._told >= pause

    def update(self, samples: int) -> None:
        """One more batch, of so many windows."""
        self.done += 1
        self._samples += samples

    def tell(self, loss: float) -> dict[str, float]:
        """Say it; what was said."""
        self._told = time.perf_counter()
        seconds = self._told - self._began
        rate = self._samples / seconds
        waiting = (self.ledger.seconds["data"] - self._waited) / seconds
        if self._bar is not None:
            self._bar.set_postfix_str(
                f"loss {loss:.4f}, {rate:.3g} samples/s, {waiting:.0%} waiting for data", refresh=False
            )
            self._bar.update(self.done - self._bar.n)
        else:
            left = seconds / (self.done - self._first) * (self.batches - self.done)
            print(
                f"{self.title}, batch {self.done}/{self.batches}: loss {loss:.4f}, {rate:.3g} samples/s, "
                f"{waiting:.0%} waiting for data, {_clock(left)} left",
                flush=True,
            )
        return {
            "train/batch/loss": loss,
            "train/batch/samples_per_second": rate,
            "train/batch/data_wait_share": waiting,
        }


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"
