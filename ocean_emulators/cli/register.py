"""`ocean-emulators register RUN NAME`: makes the checkpoint of a run the newest version of a model in MLflow's registry."""

import argparse

from ocean_emulators.errors import UserError, brief, mask
from ocean_emulators.finding import found_run
from ocean_emulators.tracking.mlflow import MlflowTracker
from ocean_emulators.tracking.mlflow_models import model_of, register, runs_with
from ocean_emulators.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A run, and what the registry knows its checkpoint by."""
    parser.add_argument("run_name", metavar="RUN", help="as `ocean-emulators runs` lists it, or its id in MLflow")
    parser.add_argument("name", metavar="NAME", help="of the model in the registry; it is made if it is not there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Register, and say which version it is."""
    home = Workspace.here().home
    tracker = MlflowTracker(home)
    with found_run(options.run_name, home) as found:
        key, record = found.about.key[:8], found.about.id
    try:
        client = tracker.client()
        models = [model for one in runs_with(client, "record.id", record) if (model := model_of(one))]
        version = register(client, models[0], options.name) if models else None
    except Exception as error:  # of whatever store and connection
        raise UserError(f"register: MLflow at {mask(tracker.address)} takes nothing: {mask(brief(error))}") from error
    if version is None:
        raise UserError(
            f"register: {mask(tracker.address)} has no checkpoint of run {key}; `ocean-emulators runs sync {key}` brings what "
            "it lacks, and there is none before its training has ended"
        )
    print(f"run {key} is version {version} of {options.name}")
