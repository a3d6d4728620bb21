"""`ocean-emulators report`: the scores of the last comparison, and what they are of."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from ocean_emulators.config.base import parse
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.errors import UserError, brief
from ocean_emulators.eval.config import EvaluationConfig
from ocean_emulators.eval.report import ratio_lines, score_lines
from ocean_emulators.lock import changed_since, locked_params
from ocean_emulators.tracking.mlflow_address import how_to_see_runs
from ocean_emulators.workspace import Workspace

_SHOWN = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print scores, what they are not of, and what exists."""
    workspace = Workspace.here()
    files = workspace.comparison
    if not files.table.is_file():
        raise UserError(f"{files.table}: no comparison here; `make repro` or `dvc repro` makes it")
    for line in warnings(workspace):
        print(f"{line}\n")
    with _readable(files.table):
        table = pd.read_csv(files.table)
        leads = _leads(workspace, table)
        lines = [*score_lines(table, leads), "", *ratio_lines(table, leads), ""]
    print("\n".join(lines))
    if workspace.evaluation.summary.is_file():
        with _readable(workspace.evaluation.summary):
            lines = _drift_lines(workspace.evaluation.summary)
        print("\n".join(lines))
    for what, place in {
        "Figures": workspace.evaluation.figures,
        "Figures beside baselines": files.figures,
        "Predictions": workspace.evaluation.predictions,
    }.items():
        if place.exists():
            print(f"{what}: {place.relative_to(workspace.root)}")
    print(f"Runs: {how_to_see_runs(workspace.home, str(load_yaml(workspace.params).get('name')))}")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what a damaged file makes its readers raise into one `UserError`. (A merge may have left its marks in it.)"""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: damaged: {brief(error)}; `git checkout` brings back the last one that was committed, `dvc repro` "
            "makes it anew"
        ) from error


def warnings(workspace: Workspace) -> Iterator[str]:
    """What a reader must know of results that are not those of this experiment, or not made here."""
    changed = changed_since(workspace)
    if changed:
        shown = "; ".join(f"{key} was {was}, is {now}" for key, (was, now) in list(changed.items())[:_SHOWN])
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        yield f"NOT OF THESE PARAMS: {workspace.params.name} has changed since ({shown}{more}). `dvc repro` makes its results."
    made = [
        workspace.prepared,
        workspace.training.checkpoint,
        workspace.evaluation.predictions,
        workspace.comparison.figures,
    ]
    missing = [str(place.relative_to(workspace.root)) for place in made if not place.exists()]
    if missing:
        yield (
            f"NOT MADE HERE: these scores came with the repository; {', '.join(missing)} are not there. `make repro` makes "
            "them, or `dvc pull` brings them where there is a remote."
        )


def _leads(workspace: Workspace, table: pd.DataFrame) -> list[float]:
    """The leads that the table's own experiment reports."""
    own = locked_params(workspace, "compare").get("evaluation")
    config = parse(EvaluationConfig, own, "dvc.lock") if own else EvaluationConfig()
    leads = table["lead"].unique()
    return config.reported_leads(leads) or [float(lead) for lead in leads]


def _drift_lines(summary: Path) -> list[str]:
    free_run = json.loads(summary.read_text())["free_run"]["largest_global_mean_error_degC"]
    if not free_run:
        return []
    worst = max(free_run, key=free_run.get)
    return [
        f"Free run: the global-mean temperature of a level is off by at most {free_run[worst]:.3f} °C ({worst}).",
        "",
    ]
