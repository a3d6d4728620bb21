"""Stage `prepare`: from the source to the packed training store."""

from ocean_emulators.datasets.preparation import prepare
from ocean_emulators.experiment import load_experiment, make_plan
from ocean_emulators.runtime import Runtime
from ocean_emulators.stages import paths


def main(runtime: Runtime) -> None:
    """Refuse what can't work, then prepare."""
    experiment = load_experiment()
    make_plan(experiment)
    paths.PREPARED.parent.mkdir(parents=True, exist_ok=True)
    prepare(experiment.data, paths.PREPARED)
