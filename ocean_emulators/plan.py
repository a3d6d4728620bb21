"""What an experiment will do and cost, known before any work, and what is refused because it can't work."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from ocean_emulators.cost import (
    TRAINING_COPIES,
    Cost,
    build_without_values,
    cost_of_model_step,
    memory_of,
    require_memory,
)
from ocean_emulators.datasets.preparation.coarsening import resolutions
from ocean_emulators.datasets.source.selection import select
from ocean_emulators.datasets.store.packed_store import open_store, store_path
from ocean_emulators.errors import UserError
from ocean_emulators.eval.config import FILE_BYTES
from ocean_emulators.experiment import Experiment
from ocean_emulators.models.base import PRECISIONS, OceanContext, Precision
from ocean_emulators.models.layers.activation_checkpointing import CHECKPOINTING, Checkpointing
from ocean_emulators.models.released.weights import Weights
from ocean_emulators.ocean import calendar
from ocean_emulators.ocean.grid import Grid
from ocean_emulators.workspace import Workspace

_BYTES = 4
_COPIES = 3
"""States of a rollout: given, inside the network and predicted."""
_BATCHES = 2
"""Batches of training windows: one that is trained on, and the next."""
_VALIDATION_FIELDS = 2
"""States whose size validation keeps for its scores: weights of cells, and of gradients."""
_SCORING_ROWS = 26
"""Rows, counted in float32, while scores are summed: prediction, truth, climatology and all statistics, in float64."""


@dataclass(frozen=True)
class Plan:
    """What an experiment will do, known from the source's metadata before any work."""

    experiment: Experiment
    grids: Mapping[str, tuple[int, int]]
    """(lat, lon) by the name of the grid"""
    step_days: float
    times: dict[str, int]
    """number of times in each period"""
    gaps: dict[str, int]
    """number of steps in each period that a leap day makes one day longer"""
    windows: Mapping[str, int]
    """number of training windows, validation windows, forecast starts, and steps of the free run"""
    wet_cells: Mapping[str, int]
    """of all channels together, by the name of the grid"""
    costs: dict[tuple[Precision, Checkpointing], Cost]
    """of a model step, on the largest grid that is trained on, by precision and by what is kept for back-propagation"""
    memory_gib: dict[str, float]
    """estimates"""
    predictions_gib: float
    """what the predictions of the free run take on the disk, before they are compressed"""

    @property
    def cost(self) -> Cost:
        """Of a model step as the experiment makes it."""
        model = self.experiment.model
        return self.costs[model.precision, model.checkpointing]

    def largest_batches(self, memory_bytes: float) -> dict[tuple[Precision, Checkpointing], int]:
        """How many windows could be trained on together in so much memory."""
        steps = max(self.experiment.train.rollout_steps)
        return {kind: cost.largest_batch(steps, memory_bytes) for kind, cost in self.costs.items()}


def make_plan(
    experiment: Experiment,
    variants: bool = False,
    weights: Weights | None = None,
    memory_bytes: float | None = None,
) -> Plan:
    """Check everything that can be known before any work, and say what the work will be and cost.

    Parameters
    ----------
    variants: find the cost for all precisions and all kinds of activation checkpointing
    weights: those to begin from
    memory_bytes: what there is to train in, see `look_ahead`

    Raises
    ------
    UserError
        As `look_ahead`, and for weights of another model.
    """
    outlook = look_ahead(experiment, memory_bytes)
    data, model = experiment.data, experiment.model
    trained = {name: outlook.contexts[name] for name in experiment.training.passes}
    if weights:
        weights.require_channels([channel.name for channel in data.prognostic_channels + data.forcing_channels])
        weights.require_fit(build_without_values(model, [*outlook.contexts.values()]))
    largest = max(trained, key=lambda name: trained[name].mask.numel())
    kinds = [*product(PRECISIONS, CHECKPOINTING)] if variants else [(model.precision, model.checkpointing)]
    contexts = list(outlook.contexts.values())
    costs = {
        (p, c): cost_of_model_step(model.replace(precision=p, checkpointing=c), contexts, largest) for p, c in kinds
    }
    times = times_of_periods(experiment, outlook.time)
    state_size = outlook.contexts[experiment.evaluating.grid].mask.numel()
    memory = {
        "data held in memory": _held_bytes(experiment, outlook, times),
        "training": _training_bytes(experiment, costs[model.precision, model.checkpointing], trained, largest),
        "evaluation": _evaluation_bytes(experiment, outlook, state_size),
    }
    return Plan(
        experiment=experiment,
        grids=outlook.shapes,
        step_days=calendar.step_days(outlook.time),
        times=times,
        gaps={
            name: len(calendar.leap_gaps(outlook.time[inside]))
            for name, inside in _inside(experiment, outlook.time).items()
        },
        windows=outlook.windows,
        wet_cells=outlook.wet_cells,
        costs=costs,
        memory_gib={name: size / 2**30 for name, size in memory.items()},
        predictions_gib=_BYTES * outlook.windows["free run steps"] * state_size / 2**30,
    )


def _held_bytes(experiment: Experiment, outlook: "Outlook", times: Mapping[str, int]) -> int:
    per_value = _BYTES if experiment.data.storage == "float32" else _BYTES // 2
    cells = sum(outlook.wet_cells[name] for name in experiment.training.passes)
    return per_value * cells * (times["train"] + times["validation"])


def _training_bytes(experiment: Experiment, cost: Cost, trained: Mapping[str, OceanContext], largest: str) -> int:
    training, ocean = experiment.train, trained[largest]
    longest = max(training.rollout_steps)
    n_channels, (n_lat, n_lon) = ocean.n_prognostic + ocean.n_forcing, ocean.grid_shape
    batch = training.batch_size * experiment.model.requirements.length(longest) * n_channels * n_lat * n_lon
    validation = _VALIDATION_FIELDS * sum(context.mask.numel() for context in trained.values())
    return cost.training_bytes(longest, training.batch_size) + _BYTES * (_BATCHES * batch + validation)


def _evaluation_bytes(experiment: Experiment, outlook: "Outlook", state_size: int) -> int:
    model, rolled_out = experiment.model, outlook.wet_cells[experiment.evaluating.grid]
    states = state_size * (model.input_states + model.output_states)
    rows = _COPIES * states + _SCORING_ROWS * rolled_out
    return _BYTES * experiment.evaluation.batch_size * rows + FILE_BYTES


@dataclass(frozen=True)
class Outlook:
    """What the source's metadata say of an experiment."""

    time: np.ndarray
    """[time], of all periods"""
    shapes: Mapping[str, tuple[int, int]]
    """(lat, lon) of each prepared grid, by name"""
    wet_cells: Mapping[str, int]
    """of all channels together, by the name of the grid"""
    windows: Mapping[str, int]
    """see `Plan`"""
    contexts: Mapping[str, OceanContext]
    """of the grids that are trained on or rolled out, without their masks"""


def look_ahead(experiment: Experiment, memory_bytes: float | None = None) -> Outlook:
    """Check what can be known from the source before any work; nothing is computed.

    Parameters
    ----------
    memory_bytes: what there is to train in; None stands for this machine's

    Raises
    ------
    UserError
        For a source, period, grid or rollout that can't work, and for a model whose weights can't be trained in the memory.
    """
    data = experiment.data
    dataset = select(data)
    prepared = {r.name: r for r in resolutions(dataset, data)[1:]}
    chosen = data.prognostic_channels + data.forcing_channels
    time = dataset["time"].values
    contexts = contexts_of(experiment, {name: prepared[name].grid for name in experiment.used})
    model = build_without_values(experiment.model, [*contexts.values()])
    require_memory(model, TRAINING_COPIES, memory_of() if memory_bytes is None else memory_bytes)
    return Outlook(
        time=time,
        shapes={name: r.grid.shape for name, r in prepared.items()},
        wet_cells={n: int(sum(r.wet[c.mask_level].sum() for c in chosen)) for n, r in prepared.items()},
        windows=count_windows(experiment, time),
        contexts=contexts,
    )


def look_again(experiment: Experiment, workspace: Workspace) -> None:
    """Check the same from data that are prepared, without a look at the source.

    Raises
    ------
    UserError
        As `look_ahead`.
    """
    stores = {name: open_store(store_path(workspace.prepared, name)) for name in experiment.used}
    contexts = contexts_of(experiment, {name: store.grid for name, store in stores.items()})
    build_without_values(experiment.model, [*contexts.values()])  # refuses a grid that it can't run on
    count_windows(experiment, next(iter(stores.values())).time)


def contexts_of(experiment: Experiment, grids: Mapping[str, Grid]) -> dict[str, OceanContext]:
    """The grids that are used, by name, as a model knows them, without their masks."""
    n_prognostic, n_forcing = len(experiment.data.prognostic_channels), len(experiment.data.forcing_channels)
    return {name: _context(name, n_prognostic, n_forcing, grid) for name, grid in grids.items()}


def _context(name: str, n_prognostic: int, n_forcing: int, grid: Grid) -> OceanContext:
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
    needs, rollout = experiment.model.requirements, max(experiment.train.rollout_steps)
    windows = {
        name: len(needs.window_starts(range(times[name]), name, rollout, strides))
        for name, strides in {"train": experiment.train.strides, "validation": (1,)}.items()
    }
    for share in experiment.train.passes:
        if share > 0 and round(share * windows["train"]) == 0:
            raise UserError(
                f"train.passes: {share:g} of {windows['train']} windows is none; give 0 for a resolution that is not to be "
                f"trained on, or at least {1 / windows['train']:.2g}"
            )
    if experiment.train.rollout_validation is not None:
        experiment.train.rollout_validation.steps(step, needs, times["validation"])
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
    periods = experiment.data.periods.named
    return {name: calendar.within(time, period.start, period.end) for name, period in periods.items()}
