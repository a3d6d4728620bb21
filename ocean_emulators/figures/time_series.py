"""Series over a free run: the Nino3.4 index, and the drift of global means."""

from collections.abc import Mapping

import cftime
import cmocean
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ocean_emulators.figures.base import EVALUATION_FIGURES, Drawn, EvaluationInputs, new_figure
from ocean_emulators.figures.style import COLOURS, plain_units


@EVALUATION_FIGURES.register("nino34")
def nino34(inputs: EvaluationInputs) -> Drawn:
    """Where the grid has ocean in the box."""
    title = "Temperature of the uppermost level in the Nino3.4 box"
    series = inputs.free_run.nino34
    return {"nino34": index_series(series, title, "degC")} if series else {}


@EVALUATION_FIGURES.register("drift")
def drift_of_temperature(inputs: EvaluationInputs) -> Drawn:
    """Where temperature is predicted."""
    title = "Free run: error of global-mean temperature by level"
    error = inputs.free_run.drift
    return {} if error is None else {"drift": drift(error, title, "degC")}


def index_series(series: Mapping[str, xr.DataArray], title: str, units: str) -> Figure:
    """A time series for each of several sources, such as the Nino3.4 index of truth and prediction."""
    figure = new_figure(9, 3.6)
    axes = figure.subplots()
    for name, values in series.items():
        axes.plot(years(values["time"].values), values, color=COLOURS.get(name, "grey"), lw=2.0, label=name)
    axes.set(title=title, xlabel="Year", ylabel=plain_units(units))
    axes.ticklabel_format(useOffset=False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def drift(error: xr.DataArray, title: str, units: str) -> Figure:
    """Error of global means over a free run, one line a level: `error` is [time, lev]."""
    figure = new_figure(9, 4)
    axes = figure.subplots()
    shades = cmocean.cm.deep(np.linspace(0.15, 0.95, error.sizes["lev"]))
    for colour, lev in zip(shades, error["lev"].values, strict=True):
        axes.plot(years(error["time"].values), error.sel(lev=lev), color=colour, label=f"{lev:.0f} m")
    axes.axhline(0, color="black", lw=0.6)
    axes.set(title=title, xlabel="Year", ylabel=plain_units(units))
    axes.ticklabel_format(useOffset=False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def years(time: np.ndarray) -> list[float]:
    """Times as years and the share of the year that has passed, which is longer in leap years and shorter on 360 days."""

    def new_year(year: int, calendar: str) -> cftime.datetime:
        return cftime.datetime(year, 1, 1, calendar=calendar)

    return [
        t.year + (t - new_year(t.year, t.calendar)) / (new_year(t.year + 1, t.calendar) - new_year(t.year, t.calendar))
        for t in time
    ]
