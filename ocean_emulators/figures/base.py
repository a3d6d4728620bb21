"""What figures are drawn from, and the registry of them: a module each, which registers its figure for a stage."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from ocean_emulators.files import replacing
from ocean_emulators.registry import Registry


@dataclass(frozen=True)
class FreeRun:
    """What is shown of a rollout through the whole test period."""

    snapshots: Mapping[str, tuple[xr.Dataset, xr.Dataset]]
    """truth and prediction of one time, by name (`middle`, `end`)"""
    nino34: Mapping[str, xr.DataArray]
    """mean temperature in the Nino3.4 box, degC [time], of truth and prediction; empty where there is none"""
    drift: xr.DataArray | None
    """error of the global mean of temperature, degC [time, lev]; None where it is not predicted"""


@dataclass(frozen=True)
class EvaluationInputs:
    """What an evaluation gives to draw."""

    history: pd.DataFrame
    """a row for each epoch; empty where nothing was trained"""
    free_run: FreeRun


@dataclass(frozen=True)
class ComparisonInputs:
    """What a comparison gives to draw."""

    table: pd.DataFrame
    """see `compare`"""
    profiles: Mapping[str, xr.DataArray]
    """by forecast, normalised RMSE [variable, lev] at one lead"""
    profile_lead: float
    """days"""


Drawn = Mapping[str, Figure]
"""Figures by the names of their files; none where there is nothing to show."""

EVALUATION_FIGURES: Registry[Callable[[EvaluationInputs], Drawn]] = Registry("figure", "ocean_emulators.figures")
COMPARISON_FIGURES: Registry[Callable[[ComparisonInputs], Drawn]] = Registry("figure", "ocean_emulators.figures")
VALIDATION_FIGURES: Registry[Callable[[xr.Dataset], Drawn]] = Registry("figure", "ocean_emulators.figures")
"""Of the maps of one grid, see `Maps.to_dataset` of the aggregator."""


def draw_validation(maps: Mapping[str, xr.Dataset]) -> dict[str, Figure]:
    """All figures of a validation, of maps by the name of the grid; those of further grids have its name: `snapshot_x2`."""
    return {
        name if k == 0 else f"{name}_{grid}": figure
        for k, (grid, of_grid) in enumerate(maps.items())
        for draw in VALIDATION_FIGURES.values()
        for name, figure in draw(of_grid).items()
    }


def save_figures(drawn: Drawn, folder: Path) -> None:
    """As PNG, without what would make two equal figures differ."""
    for name, figure in drawn.items():
        with replacing(folder / f"{name}.png") as file:
            figure.savefig(file, format="png", metadata={"Software": None})


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches."""
    return Figure(figsize=(width, height), layout="constrained", dpi=130)
