"""`ocean-emulators probe`: the first steps of a training, where and as it would run: its memory, its speed, its length."""

import argparse
import math
import shutil
import time

from launchers.config import LaunchConfig, Slurm, add_launch_argument, load_launch_config
from launchers.jobs import UntrackedJob
from launchers.slurm import Work
from launchers.submit import submit
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import load_experiment
from ocean_emulators.jobs.probe import Probed, ProbeJob
from ocean_emulators.outlook import look_again
from ocean_emulators.plan import Plan, plan_of
from ocean_emulators.workspace import Workspace

STEPS = 10
_HOURS = 0.25
"""Longest probe: short jobs begin sooner."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Changes to look at, and where to train."""
    parser.add_argument("overrides", nargs="*", metavar="a.b=value", help="changes to look at, not written anywhere")
    add_launch_argument(parser)
    parser.add_argument("--steps", type=int, default=STEPS, help="optimiser steps to try (default: %(default)s)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Try some steps, and print what they took."""
    workspace = Workspace.here()
    experiment = load_experiment(workspace.params, options.overrides)
    plan = plan_of(experiment, look_again(experiment, workspace))
    probe(plan, workspace, load_launch_config(options.launch), options.steps)


def probe(plan: Plan, workspace: Workspace, config: LaunchConfig, steps: int = STEPS) -> None:
    """Try some steps of a training, and print what they took.

    Raises
    ------
    UserError
        If there is nothing to train, or it fails.
    """
    print(*lines(try_steps(plan, workspace, config, steps), plan, config), sep="\n", flush=True)


def try_steps(plan: Plan, workspace: Workspace, config: LaunchConfig, steps: int, from_start: bool = False) -> Probed:
    """Try some steps of a training: of the costliest kind, or those that it begins with.

    Raises
    ------
    UserError
        If there is nothing to train, or it fails.
    """
    experiment = plan.experiment
    if not experiment.train.epochs or steps < 1:
        raise UserError("probe: there is nothing to try; train.epochs and --steps must be at least 1")
    runtime = config.runtime.replace(repeat_batch=False, profile=False)
    folder = workspace.scratch / f"probe-{time.strftime('%Y%m%dT%H%M%S')}-{time.monotonic_ns() % 10**6:06d}"
    job = ProbeJob(experiment.training, workspace, runtime, folder, steps, from_start)
    short = config.replace(hours=min(_HOURS, config.hours)) if isinstance(config, Slurm) else config
    try:
        submit(Work("probe", experiment.name, job, UntrackedJob(job)), short)
        return Probed.load(job.found)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def lines(probed: Probed, plan: Plan, config: LaunchConfig) -> list[str]:
    """What a probe has found, beside what was planned, and what follows from it for the whole training."""
    training_h = probed.training_steps * probed.step_s / 3600
    told = [
        f"probe: {probed.steps} steps by {probed.processes} process(es), {probed.device}",
        f"time: {probed.start_s:.1f} s until the first batch was there, a first step of {probed.first_step_s:.2f} s, then "
        f"{probed.step_s:.3g} s a step, {probed.waiting_s / probed.step_s:.0%} of it waiting for data",
        f"memory: {_memory(probed, plan)}",
        f"the training: {probed.training_steps:,} steps, {training_h:.3g} h without validation",
    ]
    if isinstance(config, Slurm):
        gpus = config.ranks * config.gpus
        told[-1] += f", {training_h * gpus:.3g} GPU hours" if gpus else ""
        if training_h > config.hours:
            told[-1] += (
                f"; with hours: {config.hours:g} it is requeued {math.ceil(training_h / config.hours) - 1} time(s)"
            )
    return told


def _memory(probed: Probed, plan: Plan) -> str:
    planned, machine = plan.training_gib(probed.processes), max(probed.machine_gib)
    state = f"a saved state takes {probed.state_gib:.2g} GiB"
    if not probed.device_gib:
        return f"up to {machine:.3g} GiB a process, of which {planned:.3g} were planned for training; {state}"
    return (
        f"up to {max(probed.device_gib):.3g} GiB of a device's {probed.device_has_gib:.3g} ({planned:.3g} planned), up to "
        f"{machine:.3g} GiB a process of the machine's; {state}"
    )
