"""Stage `prepare`: from the source to the packed training stores."""

from ocean_emulators import workspace as paths
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.experiment import load_experiment, make_plan
from ocean_emulators.parallel import Resources
from ocean_emulators.tracking.provenance import code_hash, project_root


def main(resources: Resources) -> None:
    """Refuse what can't work, then prepare, or go on where an equal preparation was interrupted."""
    experiment = load_experiment()
    make_plan(experiment)
    prepare(experiment.data, paths.PREPARED, project_root() / ".scratch", resources, code_hash())
