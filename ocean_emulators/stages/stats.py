"""Stage `stats`: normalisation statistics and climatology of the training period."""

from ocean_emulators.datasets.statistics import compute_statistics, write_statistics
from ocean_emulators.datasets.store import open_store
from ocean_emulators.experiment import load_experiment
from ocean_emulators.runtime import Runtime
from ocean_emulators.stages import paths


def main(runtime: Runtime) -> None:
    """One pass over the training period."""
    experiment = load_experiment()
    statistics = compute_statistics(open_store(paths.PREPARED), experiment.data.periods.train)
    paths.STATISTICS.parent.mkdir(parents=True, exist_ok=True)
    write_statistics(statistics, paths.STATISTICS)
