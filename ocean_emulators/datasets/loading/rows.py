"""Rows of a part of a store, read from it each time or held in memory, as dense fields on the device."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.store.packed_store import PackedStore

Cache = Literal["none", "host", "device"]
_TIMES_AT_ONCE = 16


class Rows:
    """Access to the times of a period.

    With a cache each row is read once, for training, which asks for it many times; without, it is read from the store (in
    effect from the operating system's page cache) whenever it is asked for, and checked each time.
    """

    def __init__(self, store: PackedStore, packing: Packing, times: range, cache: Cache) -> None:
        """`times` of the store; `cache` says where rows are held once read: nowhere, in the machine's memory, or on the
        device."""
        self.store, self.packing, self.times = store, packing, times
        self.held: Tensor | None = None
        # Rows of half the size are held as they are stored: the memory is worth more than normalising them each time.
        self.normalised = cache != "none" and store.scaling.storage == "float32"
        if cache != "none":
            self.held = self._read_all(packing.device if cache == "device" else torch.device("cpu"))

    def _read_all(self, device: torch.device) -> Tensor:
        held, at = None, 0
        for start in range(self.times.start, self.times.stop, _TIMES_AT_ONCE):
            for stored in self.store.stored(start, min(start + _TIMES_AT_ONCE, self.times.stop)):
                if held is None:
                    held = torch.empty(len(self.times), stored.shape[1], dtype=stored.dtype, device=device)
                if self.normalised:
                    stored = self.packing.normalise(stored.to(self.packing.device))
                held[at : at + len(stored)] = stored
                at += len(stored)
        assert held is not None
        return held

    def window(self, first: int, length: int, stride: int = 1) -> list[Tensor]:
        """Rows of `length` times of the store from `first` on, in pieces [time, cell], without a copy."""
        stop = first + (length - 1) * stride + 1
        assert self.times.start <= first and stop <= self.times.stop, (
            f"rows are held of times {self.times.start} to {self.times.stop - 1}, not of {first} to {stop - 1}"
        )
        if self.held is not None:
            return [self.held[first - self.times.start : stop - self.times.start : stride]]
        if stride == 1:
            return self.store.stored(first, stop)
        return [piece for time in range(first, stop, stride) for piece in self.store.stored(time, time + 1)]

    def fields(self, times: Sequence[int], channels: slice = slice(None)) -> Tensor:
        """Normalised fields of single times on the device, [time, channel, lat, lon]."""
        return self.packing.unpack(self._of(times), self.normalised, channels)

    def physical(self, times: Sequence[int]) -> Tensor:
        """Prognostic cells of single times on the device, physical units, [time, prognostic cell].

        To the last digit of what is stored, and so not of rows that a cache holds normalised.
        """
        assert not self.normalised, "these rows are held normalised; truth is asked of rows without a cache"
        stored = torch.cat([row[:, : self.packing.n_prognostic_cells] for row in self._of(times)]).to(
            self.packing.device
        )
        if self.store.scaling.storage == "float32":
            return stored
        return self.packing.physical(self.packing.normalise(stored))

    def _of(self, times: Sequence[int]) -> list[Tensor]:
        return [piece for time in times for piece in self.window(time, 1)]
