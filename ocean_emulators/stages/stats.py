"""Stage `stats`: normalisation statistics and climatology of each prepared store."""

from ocean_emulators import workspace as paths
from ocean_emulators.datasets.statistics.compute import compute_statistics
from ocean_emulators.datasets.statistics.writing import write_statistics
from ocean_emulators.datasets.store.packed_store import open_store
from ocean_emulators.experiment import load_experiment
from ocean_emulators.parallel import Resources


def main(resources: Resources) -> None:
    """Those of all resolutions."""
    data = load_experiment().data
    for factor in data.coarsen:
        store = open_store(paths.prepared(factor))
        statistics = compute_statistics(store, data.periods.train, data.statistics, resources)
        write_statistics(statistics, paths.statistics(factor))
