"""The order of batches: a function of seed and epoch alone, so that a resumed run sees what the first would have."""

import itertools
from collections.abc import Iterator, Mapping

import torch

from ocean_emulators.datasets.loading.train_data import Draw
from ocean_emulators.errors import UserError


def seed_of_epoch(seed: int, epoch: int) -> int:
    """One of 63 bits for what is random in an epoch of a training."""
    return (seed * 1_000_003 + epoch) % 2**63


class BatchSampler:
    """Batches of one grid each; all ranks draw the same grid at the same step, and share each batch.

    An epoch shows every window of a grid `passes` times: once by default, exactly. The windows of a grid are dealt evenly to
    as few batches as `batch_size` allows, so no batch is much shorter than another, and none is left out or has fewer
    windows than there are ranks (rather than that, batches are a little larger).
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        batch_size: int,
        seed: int,
        passes: Mapping[str, float] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """`sizes` (number of windows) and `passes` are by the name of the grid; `batch_size` is that of all ranks together.

        The order of the batches depends on that of the grids in `sizes`.

        Raises
        ------
        UserError
            If a rank would stay without windows.
        """
        if batch_size < world_size:
            raise UserError(f"train.batch_size: {batch_size} windows can't be shared by {world_size} processes")
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        passes = dict.fromkeys(sizes, 1.0) if passes is None else passes
        self.sizes = dict(sizes)
        self.counts = {grid: round(passes[grid] * size) for grid, size in sizes.items()}
        for grid, count in self.counts.items():
            if 0 < count < world_size:
                raise UserError(f"the data have {count} windows on grid {grid}, fewer than {world_size} processes")
        self.epoch, self.position = 0, 0

    def set_epoch(self, epoch: int, position: int = 0) -> None:
        """Choose the epoch that is iterated over next, and the number of its batches that were seen already."""
        self.epoch, self.position = epoch, position

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return sum(map(self._n_batches, self.counts.values()))

    @property
    def largest(self) -> int:
        """Most windows that a rank gets in a batch."""
        batch = max(-(-count // self._n_batches(count)) for count in self.counts.values() if count)
        return -(-batch // self.world_size)

    def __iter__(self) -> Iterator[Draw]:
        """This rank's share of the epoch's batches, from the position on."""
        for draw in self.batches(self.epoch)[self.position :]:
            n, ranks = len(draw.indices), self.world_size
            first, last = (r * n // ranks for r in (self.rank, self.rank + 1))
            yield Draw(draw.grid, draw.indices[first:last])

    def batches(self, epoch: int) -> list[Draw]:
        """All batches of an epoch, whole."""
        generator = torch.Generator().manual_seed(seed_of_epoch(self.seed, epoch))
        draws = []
        for grid, size in self.sizes.items():
            count = self.counts[grid]
            rounds = [torch.randperm(size, generator=generator) for _ in range(-(-count // size) if size else 0)]
            if not rounds:
                continue
            order = torch.cat(rounds)[:count].tolist()
            n = self._n_batches(count)
            bounds = [k * count // n for k in range(n + 1)]
            draws += [Draw(grid, order[a:b]) for a, b in itertools.pairwise(bounds)]
        if len(self.sizes) > 1:
            draws = [draws[i] for i in torch.randperm(len(draws), generator=generator).tolist()]
        return draws

    def _n_batches(self, count: int) -> int:
        if count == 0:
            return 0
        fewest = -(-count // self.batch_size)
        return fewest if count // fewest >= self.world_size else max(1, count // self.batch_size)


class SequentialBatches:
    """Every window of each grid once, in order: for validation."""

    def __init__(self, sizes: Mapping[str, int], batch_size: int) -> None:
        self.sizes, self.largest, self.position = dict(sizes), min(batch_size, max(sizes.values())), 0

    def __len__(self) -> int:
        return sum(-(-size // self.largest) for size in self.sizes.values())

    def __iter__(self) -> Iterator[Draw]:
        for grid, size in self.sizes.items():
            for first in range(0, size, self.largest):
                yield Draw(grid, list(range(first, min(first + self.largest, size))))
