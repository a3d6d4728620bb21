"""`ocean-emulators sweep …`: variants of an experiment, trained as one array of a cluster's jobs, each a DVC experiment."""

import argparse
import itertools
import re
import subprocess
import time
from collections.abc import Sequence
from functools import cache, partial

from launchers.config import LaunchConfig, Slurm, add_launch_argument, load_launch_config
from launchers.jobs import TrackedJob
from launchers.probe import probe
from launchers.slurm import Work, submit_array
from ocean_emulators.config.base import parse
from ocean_emulators.config.overrides import apply_overrides
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment
from ocean_emulators.jobs.train import TrainJob
from ocean_emulators.outlook import look_again
from ocean_emulators.plan import Plan, plan_of
from ocean_emulators.tracking import require_trackers
from ocean_emulators.workspace import Workspace

_COMMAS = re.compile(r",(?![^\[{]*[\]}])")
"""But for those within a list or a mapping."""
_MOST_WORKERS = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Values, and where to train."""
    parser.add_argument(
        "overrides", nargs="+", metavar="a.b=value,value", help="values to try; all combinations are trained"
    )
    add_launch_argument(parser)
    parser.add_argument(
        "--at-once", type=int, default=256, help="jobs that run at the same time (default: %(default)s)"
    )
    parser.add_argument(
        "--probe", action="store_true", help="first try some steps of the variant that takes most memory, see `probe`"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Submit the trainings as an array, and queue the experiments, whose stages find them."""
    workspace, config = Workspace.here(), load_launch_config(options.launch)
    if not isinstance(config, Slurm):
        raise UserError(
            "sweep: arrays are of a SLURM cluster (where: slurm in the launch configuration); elsewhere queue variants by "
            "`dvc exp run --queue -S key=value`, and train them by `dvc queue start`"
        )
    require_trackers(workspace.home)
    variants = combinations(options.overrides)
    works = [_work(variant, workspace, config) for variant in variants]
    if options.probe:
        plans = [work.plan() for work in works if work.plan]
        probe(max(plans, key=Plan.training_gib), workspace, config)
    submit_array(works, config, options.at_once)
    name = f"sweep-{time.strftime('%m%d-%H%M%S')}"
    for number, variant in enumerate(variants):
        changes = [word for override in variant for word in ("-S", override)]
        _dvc(workspace, "exp", "run", "--queue", "--name", f"{name}-{number}", *changes)
    _dvc(workspace, "queue", "start", "--jobs", str(min(len(variants), _MOST_WORKERS)))
    print(
        f"{len(variants)} experiments, {name}-0 to {name}-{len(variants) - 1}: `ocean-emulators jobs` shows their trainings, "
        "`dvc queue status` how far they are, `dvc exp show` their scores"
    )


def combinations(overrides: Sequence[str]) -> list[list[str]]:
    """All combinations of values, each as a list of overrides: `["a=1,2", "b=3"]` -> `[["a=1", "b=3"], ["a=2", "b=3"]]`.

    Raises
    ------
    UserError
        For one that has no value, or changes the data, which are prepared once for all.
    """
    choices = []
    for override in overrides:
        key, separator, values = override.partition("=")
        if not separator:
            raise UserError(f"sweep: {override!r}: expected KEY=VALUE,VALUE, such as train.seed=1,2")
        if key.split(".")[0] == "data":
            raise UserError(
                f"sweep: {key}: the variants of a sweep share their data; queue those that differ in them by "
                f"`dvc exp run --queue -S {override}`"
            )
        choices.append([f"{key}={value}" for value in _COMMAS.split(values)])
    return [list(variant) for variant in itertools.product(*choices)]


def _work(variant: list[str], workspace: Workspace, config: LaunchConfig) -> Work:
    """The training of a variant."""
    tree = apply_overrides(Experiment, load_yaml(workspace.params), variant)
    experiment = parse(Experiment, tree, f"{workspace.params.name} with {' '.join(variant)}")
    plan = cache(partial(plan_of, experiment, look_again(experiment, workspace)))
    job = TrainJob.of(experiment.training, workspace, config.runtime)
    return Work("train", experiment.name, job, TrackedJob.of("train", job, experiment), plan)


def _dvc(workspace: Workspace, *arguments: str) -> None:
    done = subprocess.run(["dvc", *arguments], cwd=workspace.root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"sweep: dvc {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
