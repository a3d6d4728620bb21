"""`ocean-emulators runs …`: the records of this project's experiments."""

import argparse
import sys
import time
from contextlib import closing

from filelock import FileLock, Timeout

from ocean_emulators.errors import UserError, brief, mask
from ocean_emulators.tracking.delivery import Delivery
from ocean_emulators.tracking.open import chosen_trackers, require_trackers
from ocean_emulators.tracking.record import FOLDER, About, RunFolder, runs_in
from ocean_emulators.tracking.writing import Record
from ocean_emulators.workspace import Workspace

_SHOWN = 8
"""letters of a key that a run is called by"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """List, or send."""
    commands = parser.add_subparsers(metavar="ACTION")
    parser.set_defaults(run=list_runs)
    listing = commands.add_parser("list", help="runs and the stages that they are done with, the newest first")
    listing.set_defaults(run=list_runs)
    text = "send the trackers of OCEAN_EMULATORS_TRACKER what they have not had"
    syncing = commands.add_parser("sync", help=text, description=text)
    syncing.add_argument("runs", nargs="*", metavar="RUN", help="first letters of a key, or a name (default: all)")
    syncing.set_defaults(run=sync)


def list_runs(options: argparse.Namespace) -> None:
    """A line for each run."""
    for run, about in _chosen(Workspace.here(), []):
        at, contents = time.strftime("%F %T", time.localtime(about.begun / 1000)), run.contents()
        stages = " ".join([*sorted(contents.done), *([f"({contents.running})"] if contents.running else [])])
        print(f"{about.key[:_SHOWN]}  {at}  {about.name:<24} {stages}")


def sync(options: argparse.Namespace) -> None:
    """Bring all trackers up to date; ends in 1 where one took nothing."""
    workspace = Workspace.here()
    require_trackers(workspace.home)
    failed: dict[str, str] = {}
    for run, about in _chosen(workspace, options.runs):
        told = [_send(name, run, about, workspace, failed) for name in chosen_trackers(workspace.home)]
        print(f"{about.key[:_SHOWN]}  {about.name:<24} {', '.join(told)}", flush=True)
    for place, error in failed.items():
        print(f"error: {place} takes nothing: {error}; run this again once it does", file=sys.stderr)
    if failed:
        sys.exit(1)


def _send(name: str, run: RunFolder, about: About, workspace: Workspace, failed: dict[str, str]) -> str:
    """Send one run to one tracker, unless it has failed before; what there is to say of it."""
    delivery = Delivery(name, chosen_trackers(workspace.home)[name], run, about)
    if delivery.place in failed:
        return f"{name}: not sent"
    try:
        with FileLock(run.lock, timeout=0), closing(delivery):
            Record(run, about).close()  # says that what was killed has ended
            count = delivery.deliver()
    except Timeout:
        return f"{name}: is being written, and sent by the process that does"
    except UserError as error:  # of this run alone
        print(f"error: {about.key[:_SHOWN]}: {error}", file=sys.stderr)
        failed.setdefault(f"{about.name} in {name}", brief(error))
        return f"{name}: not sent"
    except Exception as error:  # of whatever store and connection
        failed[delivery.place] = mask(brief(error))
        return f"{name}: not sent"
    return f"{name}: {count} sent" if count else f"{name}: has all"


def _chosen(workspace: Workspace, names: list[str]) -> list[tuple[RunFolder, About]]:
    """The project's runs, or those that are named.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    known = [(run, about) for run in runs_in(workspace.home) if (about := run.about())]
    if not known:
        print(f"no runs in {workspace.home / FOLDER}: `dvc repro` makes one")
    for name in names:
        if not any(_is_called(about, name) for _, about in known):
            raise UserError(f"runs: no run {name!r} in {workspace.home / FOLDER}; `ocean-emulators runs` lists them")
    return [(run, about) for run, about in known if not names or any(_is_called(about, name) for name in names)]


def _is_called(about: About, name: str) -> bool:
    return about.name == name or (bool(name) and about.key.startswith(name))
