"""One batch again and again: training that never waits for data."""

from collections.abc import Iterator

from ocean_emulators.datasets.loading.loader import Loader
from ocean_emulators.datasets.loading.train_data import Batch


class OneBatch(Loader):
    """A loader whose epochs are as long as ever, but made of their first batch alone.

    How much faster they are is what loading costs.
    """

    def __iter__(self) -> Iterator[Batch]:
        batches = super().__iter__()
        batch = next(batches, None)  # which stays valid while no other one is asked for
        for _ in range(len(self)):
            assert batch is not None
            yield batch
