"""Scores against lead, the emulator beside the baselines."""

import pandas as pd
from matplotlib.figure import Figure

from ocean_emulators.figures.base import COMPARISON_FIGURES, ComparisonInputs, Drawn, new_figure
from ocean_emulators.figures.style import label, line_of


@COMPARISON_FIGURES.register("score_against_lead")
def of_comparison(inputs: ComparisonInputs) -> Drawn:
    """Always."""
    return {"score_against_lead": score_against_lead(inputs.table)}


def score_against_lead(table: pd.DataFrame) -> Figure:
    """Normalised RMSE against lead for each variable, the emulator beside the baselines (table of `compare`)."""
    variables = list(dict.fromkeys(table["variable"]))
    figure = new_figure(12, 3.4 * -(-len(variables) // 3))
    grid = figure.subplots(-(-len(variables) // 3), 3, squeeze=False, sharex=True)
    for axes, variable in zip(grid.flat, variables, strict=False):
        for forecast, part in table[table["variable"] == variable].groupby("forecast", sort=False):
            axes.plot(part["lead"], part["nrmse"], **line_of(str(forecast)))
        axes.set_title(label(variable), fontsize=10)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    for axes in grid[:, 0]:
        axes.set_ylabel("RMSE / standard deviation")
    for axes in grid[-1]:
        axes.set_xlabel("Lead (days)")
    for axes in list(grid.flat)[len(variables) :]:
        axes.set_visible(False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure
