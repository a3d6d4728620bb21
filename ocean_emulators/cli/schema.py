"""`ocean-emulators schema`."""

import argparse
import json

from ocean_emulators.experiment import Experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the JSON schema of an experiment."""
    print(json.dumps(Experiment.model_json_schema(), indent=2))
