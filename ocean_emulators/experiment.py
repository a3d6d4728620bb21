"""The root configuration, what `params.yaml` is; its checks across sections; and the plan that follows from it."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from pydantic import Field, model_validator

from ocean_emulators.config import Config, load_yaml, parse
from ocean_emulators.config.base import did_you_mean
from ocean_emulators.cost import Cost, cost_of_call
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.preparation.job import resolutions, select
from ocean_emulators.errors import UserError
from ocean_emulators.eval.comparison import ComparisonConfig
from ocean_emulators.eval.eval import EvaluationConfig
from ocean_emulators.models.base import PRECISIONS, OceanContext, Precision
from ocean_emulators.models.families import ModelConfig
from ocean_emulators.models.layers.activation_checkpointing import CHECKPOINTING, Checkpointing
from ocean_emulators.models.released.weights import Weights
from ocean_emulators.ocean import calendar
from ocean_emulators.ocean.grid import Grid, grid_name
from ocean_emulators.train.trainer import TrainConfig

PARAMS = Path("params.yaml")
_BYTES = 4


class Experiment(Config):
    name: str = Field(min_length=1)
    """name of the MLflow experiment that the runs stand under"""
    data: DataConfig
    """what is learnt from and predicted"""
    model: ModelConfig
    """the emulator"""
    train: TrainConfig
    """how it is trained"""
    evaluation: EvaluationConfig = EvaluationConfig()
    """how it is rolled out and scored on the test period"""
    comparison: ComparisonConfig = ComparisonConfig()
    """what it is compared with"""

    @model_validator(mode="after")
    def _weighted_fields_are_predicted(self) -> "Experiment":
        for name in self.train.loss.field_weights:
            if name not in self.data.prognostic:
                raise ValueError(
                    f"train.loss.field_weights: {name!r} is not predicted; {did_you_mean(name, self.data.prognostic)}"
                )
        return self

    @model_validator(mode="after")
    def _resolutions_are_prepared(self) -> "Experiment":
        prepared = self.data.coarsen
        if len(self.train.passes) > len(prepared):
            raise ValueError(
                f"train.passes: {list(self.train.passes)} are more than the resolutions of data.coarsen, {list(prepared)}"
            )
        if self.evaluation.coarsen not in (None, *prepared):
            raise ValueError(
                f"evaluation.coarsen: found {self.evaluation.coarsen}, which is not among data.coarsen, {list(prepared)}; "
                "add it there, or choose one of those"
            )
        if self.model.positional_channels and len(self.used) > 1:
            raise ValueError(
                f"model.positional_channels: {self.model.positional_channels} inputs are learned for the cells of one grid, "
                f"but resolutions {list(self.used)} are used (train.passes, evaluation.coarsen); use 0, and coordinates: true "
                "instead"
            )
        return self

    @property
    def trained(self) -> tuple[int, ...]:
        """Factors of the resolutions that are trained on."""
        passes = zip(self.data.coarsen, self.train.passes, strict=False)
        return tuple(factor for factor, count in passes if count > 0)

    @property
    def evaluated(self) -> int:
        """Factor of the resolution that is rolled out."""
        return self.evaluation.coarsen or self.data.coarsen[0]

    @property
    def used(self) -> tuple[int, ...]:
        """Factors of the resolutions that are trained on or rolled out, those trained on first."""
        return tuple(dict.fromkeys([*self.trained, self.evaluated]))

    def sections(self, *names: str) -> dict[str, object]:
        """Some sections as plain data: what a stage's result may depend on."""
        return {name: self.dump()[name] for name in names}


def load_experiment(path: Path | str = PARAMS) -> Experiment:
    """Read and validate an experiment.

    Raises
    ------
    UserError
        Naming the file, the key, what was found, and what would be right.
    """
    return parse(Experiment, load_yaml(path), str(path))


@dataclass(frozen=True)
class Plan:
    """What an experiment will do, known from the source's metadata before any work."""

    experiment: Experiment
    grids: dict[int, tuple[int, int]]
    """(lat, lon) by the factor in `data.coarsen`"""
    step_days: float
    times: dict[str, int]
    """number of times in each period"""
    gaps: dict[str, int]
    """number of steps in each period that a leap day makes one day longer"""
    windows: dict[str, int]
    """number of training windows, validation windows, forecast starts, and steps of the free run"""
    wet_cells: dict[int, int]
    """of all channels together, by the factor in `data.coarsen`"""
    costs: dict[tuple[Precision, Checkpointing], Cost]
    """of a call, on the largest grid that is trained on, by precision and by what is kept for back-propagation"""
    memory_gib: dict[str, float]
    """estimates"""

    @property
    def cost(self) -> Cost:
        """Of a call as the experiment makes it."""
        model = self.experiment.model
        return self.costs[model.precision, model.checkpointing]

    def largest_batches(self, memory_bytes: float) -> dict[tuple[Precision, Checkpointing], int]:
        """How many windows could be trained on together in so much memory."""
        calls = max(self.experiment.train.rollout_calls)
        return {kind: cost.largest_batch(calls, memory_bytes) for kind, cost in self.costs.items()}


def make_plan(experiment: Experiment, variants: bool = False, weights: Weights | None = None) -> Plan:
    """Check everything that can be known before any work, and say what the work will be.

    With `variants`, the cost is found for all precisions and ways of keeping activations. `weights` are those to begin from.

    Raises
    ------
    UserError
        For a source, period, grid or rollout that can't work, or weights of another model.
    """
    dataset = select(experiment.data)
    prepared = {r.factor: r for r in resolutions(dataset, experiment.data)[1:]}
    shapes = {factor: r.grid.shape for factor, r in prepared.items()}
    time = dataset["time"].values
    times, windows = times_of_periods(experiment, time), count_windows(experiment, time)
    prognostic, forcing = experiment.data.prognostic_channels, experiment.data.forcing_channels
    oceans = [_context(len(prognostic), len(forcing), prepared[f].grid, grid_name(f)) for f in experiment.used]
    if weights:
        weights.require_channels([channel.name for channel in prognostic + forcing])
        with torch.device("meta"):
            weights.require_fit(experiment.model.build(*oceans))
    finest = max(oceans[: len(experiment.trained)], key=lambda ocean: ocean.mask.numel()).name
    model, training = experiment.model, experiment.train
    costs = {
        (p, c): cost_of_call(model.replace(precision=p, checkpointing=c), oceans, finest)
        for p, c in ([*product(PRECISIONS, CHECKPOINTING)] if variants else [(model.precision, model.checkpointing)])
    }
    cost = costs[model.precision, model.checkpointing]
    wet = {factor: int(sum(r.wet[c.mask_level].sum() for c in prognostic + forcing)) for factor, r in prepared.items()}
    gib = 2.0**30
    per_value = _BYTES if experiment.data.storage == "float32" else _BYTES // 2
    held = sum(wet[factor] for factor in experiment.trained) * (times["train"] + times["validation"])
    memory = {
        "data held in memory": per_value * held / gib,
        "training": cost.training_bytes(max(training.rollout_calls), training.batch_size) / gib,
    }
    return Plan(
        experiment=experiment,
        grids=shapes,
        step_days=calendar.step_days(time),
        times=times,
        gaps={name: len(calendar.leap_gaps(time[inside])) for name, inside in _inside(experiment, time).items()},
        windows=windows,
        wet_cells=wet,
        costs=costs,
        memory_gib=memory,
    )


def _context(n_prognostic: int, n_forcing: int, grid: Grid, name: str) -> OceanContext:
    """An ocean of which the grid alone is known."""
    mask = torch.ones(n_prognostic, *grid.shape, dtype=torch.bool)
    lat, lon = torch.tensor(grid.lat), torch.tensor(grid.lon)
    return OceanContext(n_prognostic, n_forcing, mask, lat, lon, torch.ones(n_prognostic), name)


def count_windows(experiment: Experiment, time: np.ndarray) -> dict[str, int]:
    """Number of windows in each period that trainings and rollouts can begin from, for data at times `time` [time].

    Raises
    ------
    UserError
        If a period is too short for what is asked of it.
    """
    times, step = times_of_periods(experiment, time), calendar.step_days(time)
    needs, calls = experiment.model.requirements, max(experiment.train.rollout_calls)
    windows = {
        name: len(needs.window_starts(range(times[name]), name, calls, strides))
        for name, strides in {"train": experiment.train.strides, "validation": (1,)}.items()
    }
    for days in experiment.evaluation.report_days:
        if not np.isclose(days / step, round(days / step)):
            raise UserError(
                f"evaluation.report_days: found {days:g}, but the data have a state every {step:g} days; "
                "give multiples of that"
            )
    steps = experiment.evaluation.steps(step)
    starts = needs.forecast_starts(range(times["test"]), steps, experiment.evaluation.start_every)
    if not starts:
        reach = needs.past + 1 + needs.reach(steps)
        raise UserError(
            f"evaluation.lead_days: {experiment.evaluation.lead_days:g} days need {reach} times, but data.periods.test "
            f"holds {times['test']} ({times['test'] * step:g} days); lengthen the period or shorten the forecasts"
        )
    windows["forecasts"] = len(starts)
    windows["free run steps"] = needs.longest_rollout(times["test"])
    return windows


def times_of_periods(experiment: Experiment, time: np.ndarray) -> dict[str, int]:
    """Number of times in each period."""
    return {name: int(inside.sum()) for name, inside in _inside(experiment, time).items()}


def _inside(experiment: Experiment, time: np.ndarray) -> dict[str, np.ndarray]:
    """Which times [time] lie in each period."""
    periods = experiment.data.periods
    named = ((name, getattr(periods, name)) for name in type(periods).model_fields)
    return {name: calendar.within(time, period.start, period.end) for name, period in named}
