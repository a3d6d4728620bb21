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
from ocean_emulators.datasets.preparation.coarsening import resolutions
from ocean_emulators.datasets.source.selection import select
from ocean_emulators.errors import UserError
from ocean_emulators.eval.comparison import ComparisonConfig
from ocean_emulators.eval.eval import EvaluationConfig
from ocean_emulators.models.base import PRECISIONS, OceanContext, Precision
from ocean_emulators.models.families import ModelConfig
from ocean_emulators.models.layers.activation_checkpointing import CHECKPOINTING, Checkpointing
from ocean_emulators.models.released.weights import Weights
from ocean_emulators.ocean import calendar
from ocean_emulators.ocean.grid import Grid
from ocean_emulators.train.trainer import TrainConfig

PARAMS = Path("params.yaml")
_BYTES = 4


class Experiment(Config):
    name: str = Field(max_length=250, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$")
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
        weights = self.train.loss.field_weights or {}
        for name in weights:
            if name not in self.data.prognostic:
                raise ValueError(
                    f"train.loss.field_weights: {name!r} is not predicted; {did_you_mean(name, self.data.prognostic)}"
                )
        if all(weights.get(name) == 0 for name in self.data.prognostic):
            raise ValueError(
                "train.loss.field_weights: all are 0, so that nothing would be learnt; give one field more"
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
    oceans = [_context(len(prognostic), len(forcing), prepared[factor].grid) for factor in experiment.used]
    if weights:
        weights.require_channels([channel.name for channel in prognostic + forcing])
        with torch.device("meta"):
            weights.require_fit(experiment.model.build(*oceans))
    finest = max(range(len(experiment.trained)), key=lambda k: oceans[k].mask.numel())
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


def _context(n_prognostic: int, n_forcing: int, grid: Grid) -> OceanContext:
    """An ocean of which the grid alone is known."""
    mask = torch.ones(n_prognostic, *grid.shape, dtype=torch.bool)
    lat, lon = torch.tensor(grid.lat), torch.tensor(grid.lon)
    return OceanContext(n_prognostic, n_forcing, mask, lat, lon, torch.ones(n_prognostic))


def count_windows(experiment: Experiment, time: np.ndarray) -> dict[str, int]:
    """Number of windows in each period that trainings and rollouts can begin from, for data at times `time` [time].

    Raises
    ------
    UserError
        If a period is too short for what is asked of it.
    """
    times, step = times_of_periods(experiment, time), calendar.step_days(time)
    needs, calls = experiment.model.requirements, max(experiment.train.rollout_calls)
    windows = {}
    for name, strides in {"train": experiment.train.strides, "validation": (1,)}.items():
        spans = [(needs.length(calls) - 1) * stride + 1 for stride in strides]
        if times[name] < max(spans):
            raise UserError(
                f"data.periods.{name}: holds {times[name]} times, but a rollout of {calls} calls (train.rollout_calls) "
                f"needs {max(spans)}; lengthen the period or shorten the rollout"
            )
        windows[name] = sum(times[name] - span + 1 for span in spans)
    for share in experiment.train.passes:
        if share > 0 and round(share * windows["train"]) == 0:
            raise UserError(
                f"train.passes: {share:g} of {windows['train']} windows is none; give 0 for a resolution that is not to be "
                f"trained on, or at least {1 / windows['train']:.2g}"
            )
    lead, steps = experiment.evaluation.lead_days, experiment.evaluation.steps(step)
    if not np.isclose(lead, steps * step):
        fitting = " or ".join(f"{n * step:g}" for n in (int(lead / step), int(lead / step) + 1) if n)
        raise UserError(
            f"evaluation.lead_days: found {lead:g}, but the data have a state every {step:g} days; give a multiple of that, "
            f"such as {fitting}"
        )
    for days in experiment.evaluation.report_days:
        if round(days / step) == 0 or not np.isclose(days / step, round(days / step)):
            raise UserError(
                f"evaluation.report_days: found {days:g}, but the data have a state every {step:g} days; "
                "give multiples of that"
            )
    reach = needs.past + 1 + needs.reach(steps)
    if times["test"] < reach:
        raise UserError(
            f"evaluation.lead_days: {experiment.evaluation.lead_days:g} days need {reach} times, but data.periods.test "
            f"holds {times['test']} ({times['test'] * step:g} days); lengthen the period or shorten the forecasts"
        )
    windows["forecasts"] = len(range(0, times["test"] - reach + 1, experiment.evaluation.start_every))
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
