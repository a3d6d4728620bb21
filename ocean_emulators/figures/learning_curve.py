"""The learning curve."""

import pandas as pd
from matplotlib.figure import Figure

from ocean_emulators.figures.base import EVALUATION_FIGURES, Drawn, EvaluationInputs, new_figure
from ocean_emulators.figures.style import COLOURS


@EVALUATION_FIGURES.register("learning_curve")
def of_evaluation(inputs: EvaluationInputs) -> Drawn:
    """Where there was training."""
    return {} if inputs.history.empty else {"learning_curve": learning_curve(inputs.history)}


def learning_curve(history: pd.DataFrame) -> Figure:
    """Training and validation loss, and the learning rate, over epochs."""
    figure = new_figure(7, 4)
    axes = figure.subplots()
    for column, name, text in (
        ("train/mean/loss", "training", "training"),
        ("val/mean/loss", "validation", "validation (averaged weights)"),
    ):
        axes.plot(history["epoch"], history[column], "o-", ms=3, color=COLOURS[name], label=text)
    axes.set(xlabel="Epoch", ylabel="Loss (normalised)", title="Learning curve")
    axes.grid(alpha=0.3)
    rate = axes.twinx()
    rate.plot(history["epoch"], history["train/learning_rate"], ":", color="grey", label="learning rate (right)")
    rate.set_ylabel("Learning rate", color="grey")
    rate.tick_params(axis="y", colors="grey")
    lines = [*axes.get_lines(), *rate.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], frameon=False)
    return figure
