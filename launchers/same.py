"""`ocean-emulators same RUN`: whether this tree trains as a run did, to the bit, by its first steps."""

import argparse
import sys

from launchers.config import add_launch_argument, load_launch_config
from launchers.probe import try_steps
from ocean_emulators.cli.differences import Inputs
from ocean_emulators.cli.runs import CALLED
from ocean_emulators.config.base import parse
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment
from ocean_emulators.finding import found_run
from ocean_emulators.outlook import look_again
from ocean_emulators.plan import plan_of
from ocean_emulators.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run, and where to train."""
    parser.add_argument("name", metavar="RUN", help=CALLED)
    add_launch_argument(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Train its first steps by the code and on the data that are here; ends in 1 where a loss is another."""
    workspace, config = Workspace.here(), load_launch_config(options.launch)
    with found_run(options.name, workspace.home) as found:
        inputs, start = Inputs.of_run(found), found.start
        experiment = parse(Experiment, found.about.config, f"run {found.about.key[:8]}")
        processes = int(found.tags.get("processes", "1"))
    if not start:
        raise UserError(f"run {options.name}: its record holds no loss of a first step; it was not trained")
    if processes != config.ranks:
        raise UserError(
            f"run {options.name} was trained by {processes} process(es), and sums of others are rounded otherwise; name a "
            f"launch configuration of as many (here: {config.ranks})"
        )
    for line in inputs.lines_beside(Inputs.here(experiment, workspace)):
        print(line)
    plan = plan_of(experiment, look_again(experiment, workspace))
    losses = dict(enumerate(try_steps(plan, workspace, config, max(start), from_start=True).losses, start=1))
    compared = sorted(start.keys() & losses.keys())  # of the first epoch
    other = [step for step in compared if losses[step] != start[step]]
    if other:
        step = other[0]
        print(
            f"DIFFERENT: the losses of {len(other)} of the first {len(compared)} steps; at first of step {step}: "
            f"{start[step]!r} in the run, {losses[step]!r} here"
        )
        sys.exit(1)
    print(f"same: the losses of the first {len(compared)} steps, to the bit")
