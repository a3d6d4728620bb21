"""The order of batches: a function of seed and epoch alone, so that a resumed run sees what the first would have."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping

import torch

from ocean_emulators.datasets.loading.train_data import Draw
from ocean_emulators.distributed import ALONE, Ranks
from ocean_emulators.errors import UserError


def seed_of_epoch(seed: int, epoch: int) -> int:
    """One of 63 bits for what is random in an epoch of a training."""
    return (seed * 1_000_003 + epoch) % 2**63


def seed_of(seed: int, *place: int) -> int:
    """One of 63 bits for what is random at a place of a training, such as an epoch, a batch and a window."""
    digest = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=8)
    return int.from_bytes(digest.digest()) >> 1


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
        ranks: Ranks = ALONE,
        model_steps: Callable[[int, int], int] | None = None,
    ) -> None:
        """`sizes` (number of windows) and `passes` are by the name of the grid; `batch_size` is that of all ranks together.

        `model_steps` says how long the rollouts of a batch are, by its epoch and its number there; all are as long as the
        windows without it. The order of the batches depends on that of the grids in `sizes`.

        Raises
        ------
        UserError
            If a rank would stay without windows.
        """
        if batch_size < ranks.world_size:
            raise UserError(
                f"train.batch_size: {batch_size} windows can't be shared by {ranks.world_size} processes; use as many "
                "windows or more, or fewer processes"
            )
        self.batch_size, self.seed, self.ranks, self.model_steps = batch_size, seed, ranks, model_steps
        passes = dict.fromkeys(sizes, 1.0) if passes is None else passes
        self.sizes = dict(sizes)
        self.counts = {grid: round(passes[grid] * size) for grid, size in sizes.items()}
        for grid, count in self.counts.items():
            if 0 < count < ranks.world_size:
                raise UserError(
                    f"the data have {count} windows on grid {grid}, fewer than {ranks.world_size} processes"
                )
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
        return -(-batch // self.ranks.world_size)

    def __iter__(self) -> Iterator[Draw]:
        """This rank's share of the epoch's batches, from the position on."""
        epoch = self.epoch
        for position, draw in list(enumerate(self.batches(epoch)))[self.position :]:
            mine = self.ranks.share(range(len(draw.indices)))
            steps = self.model_steps(epoch, position) if self.model_steps else None
            yield Draw(draw.grid, [draw.indices[i] for i in mine], steps, mine[0], len(draw.indices))

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
        return fewest if count // fewest >= self.ranks.world_size else max(1, count // self.batch_size)


class SequentialBatches:
    """Every window of each grid once, in order, a run of them for each rank: for validation."""

    def __init__(self, sizes: Mapping[str, int], batch_size: int, ranks: Ranks = ALONE) -> None:
        self.windows = {grid: ranks.share(range(size)) for grid, size in sizes.items()}
        self.largest = max(1, min(batch_size // ranks.world_size, max(map(len, self.windows.values()))))

    def __len__(self) -> int:
        return sum(-(-len(windows) // self.largest) for windows in self.windows.values())

    def __iter__(self) -> Iterator[Draw]:
        for grid, windows in self.windows.items():
            for first in range(0, len(windows), self.largest):
                yield Draw(grid, windows[first : first + self.largest])
