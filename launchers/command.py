"""`ocean-emulators jobs …`: what was submitted to a cluster from this project."""

import argparse
import time

from launchers.queue import ask, state_of
from launchers.submitted import Submitted, jobs_in, logs_of
from launchers.watch import until_ended
from ocean_emulators.errors import UserError
from ocean_emulators.workspace import Workspace

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """List, tail or cancel."""
    commands = parser.add_subparsers(metavar="ACTION")
    parser.set_defaults(run=list_jobs, all=False)
    listing = commands.add_parser("list", help="jobs and their states, the newest first")
    listing.add_argument("--all", action="store_true", help=f"more than the last {_SHOWN}")
    listing.set_defaults(run=list_jobs)
    for name, function, text in (
        ("tail", tail, "print what a job prints, until it has ended; Ctrl-C leaves it"),
        ("cancel", cancel, "end a job; what it has saved is kept"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("job", help="its number")
        command.set_defaults(run=function)


def list_jobs(options: argparse.Namespace) -> None:
    """A line for each job."""
    found = jobs_in(logs_of(Workspace.here()))
    for job in found if options.all else found[:_SHOWN]:
        at = time.strftime("%F %T", time.localtime(job.at))
        print(f"{job.id:<12} {at}  {job.stage:<9} {job.experiment:<24} {state_of(job.id)}")
    if not found:
        print("nothing was submitted from here")


def tail(options: argparse.Namespace) -> None:
    """What a job prints, until it has ended."""
    until_ended(_find(options.job))


def cancel(options: argparse.Namespace) -> None:
    """End a job."""
    job = _find(options.job)
    told = ask("scancel", job.id)
    if told.returncode:
        raise UserError(f"SLURM does not cancel job {job.id}: {told.stderr.strip()}")
    print(f"job {job.id} ({job.stage} of {job.experiment}) is cancelled; what it has saved is kept")


def _find(number: str) -> Submitted:
    known = {job.id: job for job in jobs_in(logs_of(Workspace.here()))}
    if number not in known:
        raise UserError(
            f"job {number} was not submitted from this project; `ocean-emulators jobs` lists those that were"
        )
    return known[number]
