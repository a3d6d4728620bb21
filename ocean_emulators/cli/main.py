"""`ocean-emulators …`: a table of the commands; the one that is chosen is imported then, because torch takes seconds."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from ocean_emulators.errors import mask
from ocean_emulators.programs import ending_well

COMMANDS = {
    "configure": "Render params.yaml from a preset and overrides.",
    "check": "Validate an experiment and print the plan.",
    "import": "Render params.yaml for released weights: an experiment that evaluates them as they are.",
    "schema": "Print the JSON schema of an experiment, for editors.",
    "report": "Print the scores of the last comparison, where its figures are, and how to open MLflow.",
    "data": "Look at a source, or pin one that lies elsewhere.",
    "runs": "List the records of experiments, show one, tell two apart, or send them to trackers.",
    "reproduce": "Make a run again from what its record says, and compare what comes out.",
    "same": "Find out in seconds whether this tree trains as a run did, to the bit.",
    "register": "Make the checkpoint of a run a version of a model in MLflow's registry.",
    "evaluate": "Evaluate checkpoints on the test period of this experiment, side by side.",
    "probe": "Try the first steps of a training where it would run: its memory, its speed, its length.",
    "sweep": "Train variants as an array of a cluster's jobs, each a DVC experiment.",
    "drill": "Kill, stop and starve a small training where yours would run, and see whether it ends the same.",
    "jobs": "List, tail or cancel what was submitted to a cluster.",
}
"""A module each, which has `add_arguments(parser)` and sets `run`."""

_MODULES = {
    "import": "ocean_emulators.cli.import_weights",
    "jobs": "launchers.command",
    "evaluate": "launchers.evaluate",
    "sweep": "launchers.sweep",
    "same": "launchers.same",
    "probe": "launchers.probe",
    "drill": "launchers.drill",
}
"""Those that are not in the module of their name: `import` is a keyword of Python."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; what a user got wrong ends in a message and exit code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _Parser(prog="ocean-emulators", description="Neural emulators of ocean models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    chosen = next((word for word in given if not word.startswith("-")), None)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == chosen:
            module = importlib.import_module(_MODULES.get(name, f"ocean_emulators.cli.{name}"))
            module.add_arguments(command)
    options, rest = parser.parse_known_args(given)
    # argparse leaves overrides that follow an option over: `check a=1 --params p.yaml b=2`.
    if not hasattr(options, "overrides") or any(word.startswith("-") for word in rest):
        parser.parse_args(given)
    else:
        options.overrides += rest
    with ending_well():
        options.run(options)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(mask(message))
