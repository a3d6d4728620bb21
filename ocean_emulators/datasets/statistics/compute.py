"""Normalisation statistics and the climatology, of wet cells alone; by default of the training period alone."""

import numpy as np

from ocean_emulators.datasets.config import Period, StatisticsConfig
from ocean_emulators.datasets.statistics.climatology import mean_by_bin, times_by_bin
from ocean_emulators.datasets.statistics.moments import moments_of
from ocean_emulators.datasets.statistics.published import read_published
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.errors import UserError
from ocean_emulators.files import digest
from ocean_emulators.parallel import Resources

_IN_ONE_THREAD = Resources(workers=1)


def compute_statistics(
    store: PackedStore,
    train: Period,
    settings: StatisticsConfig = StatisticsConfig(),  # noqa: B008 (frozen)
    resources: Resources = _IN_ONE_THREAD,
) -> Statistics:
    """Each row of the period is read once for the moments, and of the training period once for the climatology.

    The climatology, as large as one year of the data, is held in memory.

    Raises
    ------
    UserError
        If the training period has fewer than two times or leaves a day-of-year bin without data; a channel does not vary;
        published statistics lack a channel; or the memory limit is too low.
    """
    trained, by_bin = store.indices(train, "train"), times_by_bin(store, train)
    times = trained if settings.period == "train" else range(len(store.time))
    mean, std, change_std = moments_of(store, times, resources).summary()
    names = tuple(c.name for c in store.channels)
    _require_variation(names, std, change_std)
    made_from = [store.digest(trained), store.digest(times)]
    if settings.published_means is not None and settings.published_stds is not None:
        depths = store.grid.lev
        mean = read_published(settings.published_means, "published_means", store.channels, depths, mean)
        std = read_published(settings.published_stds, "published_stds", store.channels, depths, std)
        _require_published(names, mean, std, settings)
        made_from.append(digest(mean.tolist(), std.tolist()))
    return Statistics(mean, std, change_std, mean_by_bin(store, by_bin, resources), names, digest(*made_from))


def _require_variation(names: tuple[str, ...], std: np.ndarray, change_std: np.ndarray) -> None:
    for name, total, change in zip(names, std, change_std, strict=True):
        if not (total > 0 and change > 0):
            raise UserError(f"data: {name} does not vary over the training period; leave the field or level out")


def _require_published(names: tuple[str, ...], mean: np.ndarray, std: np.ndarray, settings: StatisticsConfig) -> None:
    usable = {"means": (mean, np.isfinite(mean)), "stds": (std, np.isfinite(std) & (std > 0))}
    for what, (values, good) in usable.items():
        if not good.all():
            first = int(np.argmin(good))
            setting = f"published_{what}"
            raise UserError(
                f"data.statistics.{setting}: {getattr(settings, setting)} has {values[first]:g} for {names[first]}, by which "
                "nothing can be normalised; mend it, leave the field or level out, or set published_means and "
                "published_stds to null to compute them"
            )
