"""What a stage will take, told before it is queued."""

from launchers.config import Slurm
from ocean_emulators.parallel import GIB
from ocean_emulators.plan import Plan

_TERAFLOPS = 100
"""per second, of a GPU: what a bfloat16 training makes of a good one"""


def training_lines(plan: Plan, config: Slurm) -> list[str]:
    """Arithmetic, memory and saving of a training."""
    ranks, training = config.ranks, plan.experiment.train
    lines = [
        f"training: {plan.optimiser_steps:,} optimiser steps of {training.batch_size} window(s), {plan.training_flops:.2g} "
        "FLOPs without validation"
    ]
    if config.gpus:
        hours = plan.training_flops / (_TERAFLOPS * 1e12) / 3600
        lines[0] += (
            f": {_told(hours)} GPU hours where a GPU makes {_TERAFLOPS} TFLOP/s of them, {_told(hours / ranks)} h on {ranks}; "
            "`ocean-emulators probe` measures it"
        )
    runtime = config.runtime
    where = "GPU" if config.gpus else "node"
    of_process, held = plan.training_gib(ranks), plan.memory_gib["data held in memory"]
    on_node = held if runtime.cache == "host" else 0.0
    lines.append(
        f"memory: {of_process:.3g} GiB of each process's {where}"
        + (f", {on_node:.3g} GiB of the machine for the data that it holds" if on_node else "")
        + f"; a state of about {plan.cost.weight_bytes / GIB:.2g} GiB is saved every {runtime.checkpoint_minutes:g} min"
    )
    needed = config.processes * (on_node + (0.0 if config.gpus else of_process))
    if config.memory_gib and needed > config.memory_gib:
        lines.append(
            f"warning: the {config.processes} process(es) of a node take about {needed:.3g} GiB of its memory, where "
            f"memory_gib is {config.memory_gib:g}"
        )
    return lines


def evaluation_lines(plan: Plan) -> list[str]:
    """Memory of an evaluation."""
    return [f"memory: about {plan.memory_gib['evaluation']:.3g} GiB"]


def _told(hours: float) -> str:
    return f"{hours:.3g}" if hours >= 0.01 else "less than 0.01"
