"""`ocean-emulators runs …`: the records of this project's experiments."""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import yaml
from filelock import FileLock, Timeout

from ocean_emulators.cli.differences import Inputs
from ocean_emulators.config.yaml_files import parse_scalar
from ocean_emulators.errors import UserError, brief, mask
from ocean_emulators.experiment import load_experiment
from ocean_emulators.finding import OUTPUT, found_run, is_called
from ocean_emulators.tracking.delivery import Delivery, copies_of
from ocean_emulators.tracking.events import Metrics
from ocean_emulators.tracking.open import chosen_trackers, require_trackers
from ocean_emulators.tracking.record import FOLDER, About, Contents, EventReader, RunFolder, runs_in
from ocean_emulators.tracking.writing import Record
from ocean_emulators.workspace import Workspace, look_up

_SHOWN = 8
"""letters of a key that a run is called by"""
CALLED = "first letters of its key, its name, DVC's name of the experiment, or its id in MLflow"
SCORE = "forecast/nrmse/all"
"""The metric whose last value, which is that of the longest lead, the table shows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """List, show, tell apart, or send."""
    commands = parser.add_subparsers(metavar="ACTION")
    parser.set_defaults(run=list_runs)
    parser.set_defaults(where=[], json=False)
    listing = commands.add_parser("list", help="runs, what they changed, their stages and scores, the newest first")
    listing.add_argument(
        "--where",
        nargs="+",
        default=[],
        metavar="a.b=value",
        help="those alone with such values in their configuration",
    )
    listing.add_argument("--json", action="store_true", help="for scripts")
    listing.set_defaults(run=list_runs)
    text = "what a run was, what it left, and what its trackers call it"
    showing = commands.add_parser("show", help=text, description=text)
    showing.add_argument("name", metavar="RUN", help=CALLED)
    showing.add_argument("--json", action="store_true", help="for scripts")
    showing.set_defaults(run=show)
    text = "what a run and another, or this tree, differ in: code, configuration, data, environment"
    comparing = commands.add_parser("diff", help=text, description=text)
    comparing.add_argument("name", metavar="RUN", help=CALLED)
    comparing.add_argument("other", metavar="RUN", nargs="?", help="another one (default: this tree)")
    comparing.set_defaults(run=diff)
    text = "send the trackers of OCEAN_EMULATORS_TRACKER what they have not had"
    syncing = commands.add_parser("sync", help=text, description=text)
    syncing.add_argument("runs", nargs="*", metavar="RUN", help="first letters of a key, or a name (default: all)")
    syncing.set_defaults(run=sync)


def list_runs(options: argparse.Namespace) -> None:
    """A line for each run."""
    wanted = [override.partition("=")[::2] for override in options.where]
    rows = [
        _summary(run, about)
        for run, about in _chosen(Workspace.here(), [])
        if all(_has(about.config, key, value) for key, value in wanted)
    ]
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        score = f"{row['nrmse']:.3f}" if row["nrmse"] is not None else "-"
        print(f"{row['run']}  {row['begun']}  {row['name']:<20} {score:>7}  {row['stages']:<22} {row['changed']}")


def _summary(run: RunFolder, about: About) -> dict[str, Any]:
    """What the table shows of a run."""
    contents, score = Contents(), None
    with EventReader(run) as reader:
        for event in reader.rest():
            contents.add(event)
            if isinstance(event.what, Metrics):
                score = event.what.values.get(SCORE, score)
    tags = about.tags | contents.tags
    return {
        "run": about.key[:_SHOWN],
        "begun": time.strftime("%F %T", time.localtime(about.begun / 1000)),
        "name": about.name,
        "experiment": tags.get("dvc.experiment", "none"),
        "stages": " ".join([*sorted(contents.done), *([f"({contents.running})"] if contents.running else [])]),
        "nrmse": score,
        "changed": tags.get("changed", ""),
    }


def _has(config: Mapping[str, Any], key: str, value: str) -> bool:
    try:
        return bool(look_up(config, key) == parse_scalar(value))
    except (KeyError, TypeError):
        return False


def show(options: argparse.Namespace) -> None:
    """All that is known of a run, but its numbers."""
    with found_run(options.name, Workspace.here().home) as run:
        tree = {
            "key": run.about.key,
            "name": run.about.name,
            "begun": time.strftime("%F %T", time.localtime(run.about.begun / 1000)),
            "made of": {name: value for name, value in sorted(run.tags.items()) if not name.startswith(OUTPUT)},
            "left": run.outputs,
            "record": str(run.folder.folder) if run.folder else "in MLflow",
            "copies": copies_of(run.folder) if run.folder else [options.name],
            "configuration": run.about.config,
        }
    print(
        json.dumps(tree, indent=1) if options.json else yaml.safe_dump(tree, sort_keys=False, allow_unicode=True),
        end="",
    )


def diff(options: argparse.Namespace) -> None:
    """What differs, a kind after the other."""
    workspace = Workspace.here()
    with found_run(options.name, workspace.home) as run:
        one = Inputs.of_run(run)
    if options.other is None:
        other = Inputs.here(load_experiment(workspace.params), workspace)
    else:
        with found_run(options.other, workspace.home) as run:
            other = Inputs.of_run(run)
    print(*(one.lines_beside(other) or ["nothing differs"]), sep="\n")


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
        if not any(is_called(run, about, name) for run, about in known):
            raise UserError(f"runs: no run {name!r} in {workspace.home / FOLDER}; `ocean-emulators runs` lists them")
    return [(run, about) for run, about in known if not names or any(is_called(run, about, name) for name in names)]
