"""`ocean-emulators …`, the commands for people."""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import psutil

from ocean_emulators import workspace as paths
from ocean_emulators.cli import data as cli_data
from ocean_emulators.cli import import_weights as cli_import
from ocean_emulators.config import apply_overrides, load_yaml, parse, write
from ocean_emulators.errors import UserError, exit_on_user_error
from ocean_emulators.eval.report import ratio_lines, score_lines
from ocean_emulators.experiment import PARAMS, Experiment, Plan, load_experiment, make_plan
from ocean_emulators.models.released.weights import read_weights
from ocean_emulators.parallel import GIB
from ocean_emulators.tracking.provenance import project_root

PRESETS = Path("configs/experiment")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; what a user got wrong ends in a message and exit code 2."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse takes no more overrides behind the first option that stands among them
    if not hasattr(options, "overrides") or any(word.startswith("-") for word in rest):
        parser.parse_args(arguments)
    else:
        options.overrides += rest
    with exit_on_user_error():
        options.command(options)


def configure(options: argparse.Namespace) -> None:
    """Render `params.yaml` from a preset and overrides."""
    path = preset_path(options.preset)
    tree = apply_overrides(Experiment, load_yaml(path), options.overrides)
    experiment = parse(Experiment, tree, str(path))
    header = (
        f"The whole experiment, rendered from {path.as_posix()} by `ocean-emulators configure`.\n"
        "Change values here, or by `dvc exp run -S key=value`; `ocean-emulators check` says what they mean."
    )
    write(experiment, options.output, header)
    print(f"wrote {options.output}")


def preset_path(name: str) -> Path:
    """A file as given, else the preset of that name."""
    given, preset = Path(name), PRESETS / f"{name}.yaml"
    if given.suffix in (".yaml", ".yml"):
        return given
    if not preset.is_file():
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml"))) or "none here"
        raise UserError(f"no preset {name!r} in {PRESETS}/ (there are: {known}); give one of them or a .yaml file")
    return preset


def check(options: argparse.Namespace) -> None:
    """Validate an experiment and print the plan."""
    tree = apply_overrides(Experiment, load_yaml(options.params), options.overrides)
    experiment = parse(Experiment, tree, str(options.params))
    initial = experiment.train.initial_weights
    weights = read_weights(initial.find(project_root()), initial.averaged) if initial else None
    plan = make_plan(experiment, variants=True, weights=weights)
    print(describe(plan))
    print("\n".join(batch_lines(plan, options.memory_gib or psutil.virtual_memory().total / GIB)))


def describe(plan: Plan) -> str:
    """A plan as text."""
    data, model = plan.experiment.data, plan.experiment.model
    prognostic, forcing = data.prognostic_channels, data.forcing_channels
    needs, cost = model.requirements, plan.cost
    grids = [f"{lat} × {lon}, {plan.wet_cells[factor]:,} wet cells" for factor, (lat, lon) in plan.grids.items()]
    lines = {
        "source": f"{data.source}, every {plan.step_days:g} days",
        "grid": f"{len(data.levels)} levels, {grids[0]}",
        **({"also": "; ".join(grids[1:])} if grids[1:] else {}),
        "predicted": f"{len(prognostic)} channels: {', '.join(data.prognostic)}",
        "forcing": f"{len(forcing)} channels: {', '.join(data.forcing) or 'none'}",
        "one call": f"{needs.input_states} state(s) and forcing at {list(needs.forcing_times)} -> "
        f"{needs.output_states} state(s); {cost.in_channels} -> {cost.out_channels} channels",
        "model": f"{model.type}, {cost.n_parameters:,} parameters",
        **({"begins as": plan.experiment.train.initial_weights.path} if plan.experiment.train.initial_weights else {}),
        "arithmetic": f"{cost.forward_flops:.2e} FLOPs a call, {cost.training_flops:.2e} with back-propagation",
    }
    for name, count in plan.times.items():
        period = getattr(data.periods, name)
        gaps = f", {plan.gaps[name]} gap(s) of {plan.step_days + 1:g} days" if plan.gaps[name] else ""
        lines[name] = f"{period.start} to {period.end}: {count} times, every {plan.step_days:g} days{gaps}"
    lines["windows"] = ", ".join(f"{count} {name}" for name, count in plan.windows.items())
    lines["memory"] = ", ".join(f"{name} about {size:.2f} GiB" for name, size in plan.memory_gib.items())
    return "\n".join(f"{name:>10}  {text}" for name, text in lines.items())


def batch_lines(plan: Plan, memory_gib: float) -> list[str]:
    """A table of what training costs by precision and checkpointing, and of the batches that fit into so much memory."""
    calls = max(plan.experiment.train.rollout_calls)
    lines = [
        f"\nTraining on one window of {calls} call(s), and how many fit into {memory_gib:.1f} GiB:",
        "  model.precision  model.checkpointing  memory, GiB  arithmetic, FLOPs  windows",
    ]
    batches = plan.largest_batches(memory_gib * GIB)
    for (precision, checkpointing), cost in plan.costs.items():
        lines.append(
            f"  {precision:15}  {checkpointing:19}  {cost.training_bytes(calls) / GIB:11.2f}  "
            f"{calls * cost.training_flops:17.2e}  {batches[precision, checkpointing]:7}"
        )
    return lines


def schema(options: argparse.Namespace) -> None:
    """Print the JSON schema of an experiment, for editors."""
    print(json.dumps(Experiment.model_json_schema(), indent=2))


def report(options: argparse.Namespace) -> None:
    """Print the scores of the last comparison, where its figures are, and how to open MLflow."""
    if not paths.COMPARISON_CSV.is_file():
        raise UserError(f"{paths.COMPARISON_CSV}: no comparison here; `make repro` or `dvc repro` makes it")
    experiment = load_experiment()
    table = pd.read_csv(paths.COMPARISON_CSV)
    leads = experiment.evaluation.reported_leads(table["lead"].unique())
    print("\n".join([*score_lines(table, leads), "", *ratio_lines(table, leads), ""]))
    free_run = json.loads(paths.SCORES_JSON.read_text())["free_run"]["largest_global_mean_error_degC"]
    if free_run:
        worst = max(free_run, key=free_run.get)
        print(
            f"Free run: the global-mean temperature of a level is off by at most {free_run[worst]:.3f} °C ({worst}).\n"
        )
    folders = sorted({p.parent.as_posix() for p in Path("outputs").glob(f"*/{paths.FIGURES}/*.png")})
    print(f"Figures: {', '.join(folders)}")
    print(f"Predictions: {paths.PREDICTIONS}")
    print(f"Runs: {_how_to_see_runs()}")


def _how_to_see_runs() -> str:
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    return f"at {uri}" if uri else f"mlflow ui --backend-store-uri sqlite:///{project_root() / 'mlflow.db'}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ocean-emulators", description="Neural emulators of ocean models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        added = commands.add_parser(function.__name__, help=(function.__doc__ or "").strip())
        added.set_defaults(command=function)
        return added

    sub = command(configure)
    sub.add_argument("preset", help=f"a name in {PRESETS}/, or a .yaml file")
    sub.add_argument("overrides", nargs="*", metavar="a.b=value", help="changes to the preset")
    sub.add_argument("--output", type=Path, default=PARAMS, help="where to write (default: %(default)s)")
    sub = command(check)
    sub.add_argument("overrides", nargs="*", metavar="a.b=value", help="changes to look at, not written anywhere")
    sub.add_argument("--params", type=Path, default=PARAMS, help="the experiment (default: %(default)s)")
    sub.add_argument("--memory-gib", type=float, help="memory to train in (default: this machine's)")
    cli_import.add_arguments(commands.add_parser("import", help=cli_import.import_weights.__doc__))
    command(schema)
    command(report)
    cli_data.add_commands(commands.add_parser("data", help="Look at a source, or pin one that lies elsewhere."))
    return parser


if __name__ == "__main__":
    main()
