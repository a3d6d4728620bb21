"""The order of batches: a function of seed and epoch alone, so that a resumed run sees what the first would have."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class EpochBatchSampler(Sampler[list[int]]):
    """Shuffled batches of indices; the last, short batch of an epoch is left out (unless it is the only one)."""

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        super().__init__()
        self.size, self.batch_size, self.seed = size, min(batch_size, size), seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration shows."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.size, generator=generator)
        for batch in range(len(self)):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()
