"""One step ahead in validation: a window, and means over all."""

from collections.abc import Callable

import xarray as xr
from matplotlib.figure import Figure

from ocean_emulators.figures.base import VALIDATION_FIGURES, Drawn, new_figure
from ocean_emulators.figures.panels import Scale, draw_map, label_row, scale_of, scale_of_differences
from ocean_emulators.figures.style import MAPS
from ocean_emulators.ocean.fields import channel

Scales = Callable[[str, xr.Dataset], dict[str, Scale]]
"""For a field and its maps, each [lat, lon], what to draw and how, by the map's name."""

_TITLES = {
    "truth": "Truth",
    "prediction": "Prediction",
    "true_increment": "True change over the step",
    "increment": "Predicted change",
    "error": "Error (prediction - truth)",
    "mean_truth": "Truth",
    "mean_prediction": "Prediction",
    "mean_error": "Error (prediction - truth)",
}


@VALIDATION_FIGURES.register("snapshot")
def snapshot(maps: xr.Dataset) -> Drawn:
    """The first window: states, changes and error, these on one scale, so that what was learned of a change is seen."""
    if "prediction" not in maps:
        return {}

    def scales(name: str, field: xr.Dataset) -> dict[str, Scale]:
        own, change = scale_of(name, field["truth"]), scale_of_differences(field["true_increment"], field["error"])
        return {"truth": own, "prediction": own} | dict.fromkeys(("true_increment", "increment", "error"), change)

    return {"snapshot": _rows_of_maps(maps, scales, "Validation: the first window, one step ahead")}


@VALIDATION_FIGURES.register("mean_maps")
def mean_maps(maps: xr.Dataset) -> Drawn:
    """Means over all windows."""

    def scales(name: str, field: xr.Dataset) -> dict[str, Scale]:
        own = scale_of(name, field["mean_truth"])
        return {
            "mean_truth": own,
            "mean_prediction": own,
            "mean_error": scale_of_differences(field["mean_error"]),
        }

    return {"mean_maps": _rows_of_maps(maps, scales, "Validation: means over all windows, one step ahead")}


def _rows_of_maps(maps: xr.Dataset, scales: Scales, title: str) -> Figure:
    """A row for each variable."""
    rows = [(name, field, scales(name, field)) for name, field in _by_variable(maps).items()]
    columns = list(rows[0][2])
    figure = new_figure(0.4 + 4.2 * len(columns), 0.6 + 2.3 * len(rows))
    panels = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey=True)
    for row, (name, field, drawn) in zip(panels, rows, strict=True):
        for axes, (column, scale) in zip(row, drawn.items(), strict=True):
            draw_map(axes, field[column], scale)
        label_row(row[0], name)
    for axes, column in zip(panels[0], columns, strict=True):
        axes.set_title(_TITLES[column])
    figure.suptitle(title)
    return figure


def _by_variable(maps: xr.Dataset) -> dict[str, xr.Dataset]:
    """By the name of a variable, in the order that they are drawn in elsewhere, its maps [lat, lon]."""
    places = {channel(str(name)).field.name: k for k, name in enumerate(maps["channel"].values)}
    return {name: maps.isel(channel=places[name]) for name in MAPS if name in places}
