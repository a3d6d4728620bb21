"""Batches, prefetched."""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from ocean_emulators.datasets.loading.samplers import BatchSampler, SequentialBatches
from ocean_emulators.datasets.loading.train_data import Batch, Draw, TrainData


class Loader:
    """Iterates over drawn batches while threads make the next ones: reading, copying and unpacking leave Python's lock.

    A batch is valid until the next one is asked for: its memory is used again, because giving fresh memory to every batch
    costs more than filling it.
    """

    def __init__(self, data: TrainData, batches: BatchSampler | SequentialBatches, prefetch: int = 1) -> None:
        """`prefetch`: number of batches made ahead of their use, each by a thread of its own; 0 makes each when asked."""
        self.data, self.batches, self.prefetch = data, batches, prefetch
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self._buffers: list[dict[str, Tensor]] = []

    @property
    def device(self) -> torch.device:
        """Where batches lie."""
        return self.data.device

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        if not self._buffers:
            self._buffers = [self.data.buffer(self.batches.largest) for _ in range(self.prefetch + 1)]
        draws: Iterator[Draw] = iter(self.batches)
        if self._stream is not None:  # what is held on the device may still be on its way there
            self._stream.wait_stream(torch.cuda.default_stream(self.device))
        pending: deque[tuple[dict[str, Tensor], Future[Batch]]] = deque()
        with ThreadPoolExecutor(max(self.prefetch, 1)) as threads:

            def begin(buffer: dict[str, Tensor]) -> None:
                draw = next(draws, None)
                if draw is not None:
                    pending.append((buffer, threads.submit(self._load, draw, buffer)))

            for buffer in self._buffers:
                begin(buffer)
            while pending:
                buffer, made = pending.popleft()
                batch = made.result()
                yield batch
                begin(buffer)

    def _load(self, draw: Draw, buffer: Mapping[str, Tensor]) -> Batch:
        if self._stream is None:
            return self.data.load(draw, buffer)
        # Beside the computation; when it is done, so is the use of the buffer.
        with torch.cuda.stream(self._stream):
            batch = self.data.load(draw, buffer)
        self._stream.synchronize()
        for tensor in (batch.prognostic, batch.forcing):
            tensor.record_stream(torch.cuda.default_stream(self.device))
        return batch
