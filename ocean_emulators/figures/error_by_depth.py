"""Errors by depth, the emulator beside the baselines."""

from collections.abc import Mapping

import xarray as xr
from matplotlib.figure import Figure

from ocean_emulators.figures.base import COMPARISON_FIGURES, ComparisonInputs, Drawn, new_figure
from ocean_emulators.figures.style import label, line_of
from ocean_emulators.ocean.fields import FIELDS


@COMPARISON_FIGURES.register("error_by_depth")
def of_comparison(inputs: ComparisonInputs) -> Drawn:
    """Where there are fields with levels."""
    return {"error_by_depth": error_by_depth(inputs.profiles, inputs.profile_lead)} if inputs.profiles else {}


def error_by_depth(scores: Mapping[str, xr.DataArray], lead: float) -> Figure:
    """Normalised RMSE by depth for each variable with levels, one line a forecast.

    `scores`: by forecast, nrmse [variable, lev] at lead `lead` (days), with `lev` in m.
    """
    held = next(iter(scores.values()))["variable"].values
    variables = [name for name in FIELDS if name in held]
    figure = new_figure(3 * len(variables), 4.2)
    panels = figure.subplots(1, len(variables), squeeze=False, sharey=True)[0]
    for axes, variable in zip(panels, variables, strict=True):
        for forecast, nrmse in scores.items():
            part = nrmse.sel(variable=variable)
            axes.plot(part, part["lev"], "o-", ms=3, **line_of(forecast))
        axes.set(title=label(variable), xlabel="RMSE / standard deviation")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    panels[0].set(ylabel="Depth (m)", yscale="log")
    panels[0].invert_yaxis()
    figure.suptitle(f"Error by depth at {lead:g} days")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure
