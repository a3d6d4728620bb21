"""Maps of truth, prediction and error."""

from collections.abc import Sequence

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ocean_emulators.figures.base import EVALUATION_FIGURES, Drawn, EvaluationInputs, new_figure
from ocean_emulators.figures.panels import draw_map, label_row, scale_of, scale_of_differences
from ocean_emulators.figures.style import MAPS


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
    error, own = prediction - truth, scale_of(name, truth)
    scales = [(truth, own), (prediction, own), (error, scale_of_differences(error))]
    for axes, (values, scale) in zip(row, scales, strict=True):
        draw_map(axes, values, scale)
    label_row(row[0], name)


def _surface(field: xr.DataArray) -> xr.DataArray:
    return field.isel(lev=0) if "lev" in field.dims else field
