"""`ocean-emulators evaluate CHECKPOINT…`: checkpoints on the test period of this project's experiment, side by side."""

import argparse
import json
from functools import partial
from pathlib import Path

from launchers.config import add_launch_argument, load_launch_config
from launchers.jobs import UntrackedJob
from launchers.slurm import Work
from launchers.submit import submit_all
from ocean_emulators.errors import UserError
from ocean_emulators.eval.config import EvaluateSections
from ocean_emulators.experiment import load_experiment
from ocean_emulators.files import sha256
from ocean_emulators.jobs.evaluate import EvaluateJob
from ocean_emulators.outlook import look_again
from ocean_emulators.plan import plan_of
from ocean_emulators.stages.base import have_done
from ocean_emulators.workspace import EvaluationFiles, Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Checkpoints, where to evaluate them, and where to put the results."""
    parser.add_argument(
        "checkpoints", nargs="+", type=Path, metavar="CHECKPOINT", help="files that trainings have left"
    )
    parser.add_argument(
        "--into", type=Path, default=Path("evaluations"), help="folder of the results (default: %(default)s)"
    )
    add_launch_argument(parser)
    parser.add_argument(
        "--at-once", type=int, default=256, help="jobs of a cluster that run at the same time (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Evaluate them, on a cluster as an array of jobs; then print a table of their scores."""
    workspace, config = Workspace.here(), load_launch_config(options.launch)
    experiment = load_experiment(workspace.params)
    missing = [str(path) for path in options.checkpoints if not path.is_file()]
    if missing:
        raise UserError(f"evaluate: no such file: {', '.join(missing)}")
    contents = {sha256(path): path for path in reversed(options.checkpoints)}  # each once, whatever it is called
    jobs = {
        f"{path.stem}-{content[:8]}": EvaluateJob.of(experiment.evaluating, workspace, config.runtime, path.absolute())
        for content, path in reversed(contents.items())
    }
    plan = partial(plan_of, experiment, look_again(experiment, workspace))
    submit_all(
        [Work("evaluate", name, job, UntrackedJob(job), plan) for name, job in jobs.items()], config, options.at_once
    )
    for name, job in jobs.items():
        have_done(job, "evaluate", options.into / name, lambda job: None, replace=True)
    print(*score_lines({name: options.into / name for name in jobs}, experiment.evaluating), sep="\n")


def score_lines(folders: dict[str, Path], sections: EvaluateSections) -> list[str]:
    """Normalised RMSE of all fields together, a line for each evaluation, by lead."""
    rows = {name: _nrmse(EvaluationFiles(folder)) for name, folder in folders.items()}
    leads = [f"{days:g}d" for days in sections.evaluation.report_days]
    shown = [lead for lead in leads if any(lead in row for row in rows.values())]
    width = max(map(len, rows))
    return [
        "RMSE / standard deviation, all fields",
        " ".join(["".ljust(width), *(f"{lead:>8}" for lead in shown)]),
        *(
            " ".join([name.ljust(width), *(f"{row[lead]:8.3f}" if lead in row else " " * 8 for lead in shown)])
            + f"  {folders[name]}"
            for name, row in rows.items()
        ),
    ]


def _nrmse(files: EvaluationFiles) -> dict[str, float]:
    summary = json.loads(files.summary.read_text())
    found: dict[str, float] = summary["forecast"]["nrmse"]["all"]
    return found
