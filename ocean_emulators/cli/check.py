"""`ocean-emulators check`: validates an experiment and prints the plan."""

import argparse
from pathlib import Path

from ocean_emulators.cost import memory_of
from ocean_emulators.experiment import load_experiment
from ocean_emulators.models.released.weights import read_weights
from ocean_emulators.parallel import GIB
from ocean_emulators.plan import Plan, make_plan
from ocean_emulators.workspace import PARAMS, Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Changes to look at, the file, and the memory."""
    parser.add_argument("overrides", nargs="*", metavar="a.b=value", help="changes to look at, not written anywhere")
    parser.add_argument("--params", type=Path, default=PARAMS, help="the experiment (default: %(default)s)")
    parser.add_argument("--memory-gib", type=float, help="memory to train in (default: this machine's)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the plan."""
    experiment = load_experiment(options.params, options.overrides)
    initial = experiment.train.initial_weights
    weights = read_weights(initial.find(Workspace.here()), initial.averaged) if initial else None
    memory_bytes = memory_of() if options.memory_gib is None else options.memory_gib * GIB
    plan = make_plan(experiment, variants=True, weights=weights, memory_bytes=memory_bytes)
    print(describe(plan))
    print("\n".join(batch_lines(plan, memory_bytes / GIB)))


def describe(plan: Plan) -> str:
    """A plan as text."""
    data, model = plan.experiment.data, plan.experiment.model
    prognostic, forcing = data.prognostic_channels, data.forcing_channels
    needs, cost = model.requirements, plan.cost
    grids = [
        f"{lat} × {lon}, {plan.outlook.wet_cells[name]:,} wet cells" for name, (lat, lon) in plan.outlook.shapes.items()
    ]
    lines = {
        "source": f"{data.source}, every {plan.step_days:g} days",
        "grid": f"{len(data.levels)} levels, {grids[0]}",
        **({"also": "; ".join(grids[1:])} if grids[1:] else {}),
        "predicted": f"{len(prognostic)} channels: {', '.join(data.prognostic)}",
        "forcing": f"{len(forcing)} channels: {', '.join(data.forcing) or 'none'}",
        "model step": f"{needs.input_states} state(s) and forcing at {list(needs.forcing_times)} -> "
        f"{needs.output_states} state(s); {cost.in_channels} -> {cost.out_channels} channels",
        "model": f"{model.family}, {cost.n_parameters:,} parameters",
        **({"begins as": plan.experiment.train.initial_weights.path} if plan.experiment.train.initial_weights else {}),
        "arithmetic": f"{cost.forward_flops:.2e} FLOPs a model step, {cost.training_flops:.2e} with back-propagation",
    }
    for name, count in plan.times.items():
        period = getattr(data.periods, name)
        gaps = f", {plan.gaps[name]} gap(s) of {plan.step_days + 1:g} days" if plan.gaps[name] else ""
        lines[name] = f"{period.start} to {period.end}: {count} times, every {plan.step_days:g} days{gaps}"
    lines["windows"] = ", ".join(f"{count} {name}" for name, count in plan.outlook.windows.items())
    lines["memory"] = ", ".join(f"{name} about {size:.2f} GiB" for name, size in plan.memory_gib.items())
    lines["disk"] = f"predictions of the free run about {plan.predictions_gib:.2f} GiB, before compression"
    return "\n".join(f"{name:>10}  {text}" for name, text in lines.items())


def batch_lines(plan: Plan, memory_gib: float) -> list[str]:
    """A table of what training costs by precision and checkpointing, and of the batches that fit into so much memory."""
    steps = max(plan.experiment.train.rollout_steps)
    lines = [
        f"\nTraining on one window of {steps} model step(s), and how many fit into {memory_gib:.1f} GiB:",
        "  model.precision  model.checkpointing  memory, GiB  arithmetic, FLOPs  windows",
    ]
    batches = plan.largest_batches(memory_gib * GIB)
    for (precision, checkpointing), cost in plan.costs.items():
        lines.append(
            f"  {precision:15}  {checkpointing:19}  {cost.training_bytes(steps) / GIB:11.2f}  "
            f"{steps * cost.training_flops:17.2e}  {batches[precision, checkpointing]:7}"
        )
    return lines
