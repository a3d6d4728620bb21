"""Maps of truth, prediction and error."""

from collections.abc import Sequence

import cmocean
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ocean_emulators.figures.base import EVALUATION_FIGURES, Drawn, EvaluationInputs, new_figure
from ocean_emulators.figures.style import MAPS, plain_units
from ocean_emulators.ocean.fields import FIELDS


@EVALUATION_FIGURES.register("maps")
def of_evaluation(inputs: EvaluationInputs) -> Drawn:
    """One figure for each time that was kept."""
    return {
        f"maps_{name}": maps(truth, prediction, f"Free run, {truth['time'].item().strftime('%Y-%m-%d')}")
        for name, (truth, prediction) in inputs.free_run.snapshots.items()
    }


def maps(truth: xr.Dataset, prediction: xr.Dataset, when: str) -> Figure:
    """Truth, prediction and error of each variable at its uppermost level; datasets of one time."""
    variables = [name for name in MAPS if name in truth]
    figure = new_figure(13, 2.5 * len(variables) + 0.4)
    panels = figure.subplots(len(variables), 3, squeeze=False, sharex=True, sharey=True)
    for row, name in zip(panels, variables, strict=True):
        pair = [_surface(dataset[name]) for dataset in (truth, prediction)]
        _map_row(row, name, *pair)
    for axes, title in zip(panels[0], ("Truth", "Prediction", "Error (prediction - truth)"), strict=True):
        axes.set_title(title)
    figure.suptitle(when)
    return figure


def _map_row(row: Sequence[Axes], name: str, truth: xr.DataArray, prediction: xr.DataArray) -> None:
    style, entry = MAPS[name], FIELDS[name]
    own = getattr(cmocean.cm, style.colours)
    low, high = np.nanquantile(truth, [0.005, 0.995])
    if style.symmetric:
        high = max(abs(low), abs(high))
        low = -high
    error = prediction - truth
    # Fields at rest, and perfect predictions, have no extent; give the scale one.
    most = float(np.nanquantile(np.abs(error), 0.995)) or 1.0
    scales = [
        (truth, own, low, high),
        (prediction, own, low, high),
        (error, cmocean.cm.delta, -most, most),
    ]
    for axes, (values, colours, vmin, vmax) in zip(row, scales, strict=True):
        mesh = axes.pcolormesh(values["lon"], values["lat"], values, cmap=colours, vmin=vmin, vmax=vmax)
        axes.set_facecolor("0.75")
        axes.figure.colorbar(mesh, ax=axes, pad=0.01, shrink=0.9)
    row[0].set_ylabel(f"{entry.long_name}\n({plain_units(entry.units)})", fontsize=8)


def _surface(field: xr.DataArray) -> xr.DataArray:
    return field.isel(lev=0) if "lev" in field.dims else field
