"""What is known of an experiment before any work, from a source's metadata or from prepared data, and what is refused because
it can't work."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ocean_emulators.cost import TRAINING_COPIES, build_without_values, memory_of, require_memory
from ocean_emulators.datasets.preparation.coarsening import resolutions
from ocean_emulators.datasets.source.selection import select
from ocean_emulators.datasets.store.packed_store import open_store, store_path
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment
from ocean_emulators.models.base import OceanContext
from ocean_emulators.ocean import calendar
from ocean_emulators.ocean.grid import Grid
from ocean_emulators.workspace import Workspace


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
    """number of training windows, validation windows, forecast starts, and steps of the free run"""
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


def look_again(experiment: Experiment, workspace: Workspace) -> Outlook:
    """Check the same from data that are prepared, without a look at the source, for a machine whose memory is not known.

    Raises
    ------
    UserError
        As `look_ahead`.
    """
    stores = {name: open_store(store_path(workspace.prepared, name)) for name in experiment.used}
    time = next(iter(stores.values())).time
    contexts = contexts_of(experiment, {name: store.grid for name, store in stores.items()})
    build_without_values(experiment.model, [*contexts.values()])  # refuses a grid that it can't run on
    return Outlook(
        time=time,
        shapes={name: store.grid.shape for name, store in stores.items()},
        wet_cells={name: int(store.cells_per_channel.sum()) for name, store in stores.items()},
        windows=count_windows(experiment, time),
        contexts=contexts,
    )


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
    return {name: int(inside.sum()) for name, inside in within_periods(experiment, time).items()}


def within_periods(experiment: Experiment, time: np.ndarray) -> dict[str, np.ndarray]:
    """Which times [time] lie in each period."""
    periods = experiment.data.periods.named
    return {name: calendar.within(time, period.start, period.end) for name, period in periods.items()}
