"""Scores as text."""

import pandas as pd

from ocean_emulators.figures.style import label
from ocean_emulators.forecasting.base import EMULATOR


def score_lines(table: pd.DataFrame, leads: list[float]) -> list[str]:
    """Normalised RMSE over all fields at some leads (days), a line a forecast; `table` is that of `compare`."""
    overall = table[table["variable"] == "all"].pivot(index="forecast", columns="lead", values="nrmse")
    rows = [
        [label(name), *(f"{overall.loc[name, lead]:.3f}" for lead in leads)] for name in pd.unique(table["forecast"])
    ]
    return ["RMSE / standard deviation, all fields", *_aligned(["days", *(f"{d:g}" for d in leads)], rows)]


def ratio_lines(table: pd.DataFrame, leads: list[float]) -> list[str]:
    """The emulator's RMSE over that of the first baseline at some leads (days), a line a variable."""
    others = [name for name in pd.unique(table["forecast"]) if name != EMULATOR]
    if not others:
        return []
    part = table[table["forecast"] == others[0]].set_index(["variable", "lead"])
    rows = []
    for variable in pd.unique(table["variable"]):
        cells = (part.loc[(variable, lead)] for lead in leads)
        rows.append([label(variable), *map(_with_interval, cells)])
    title = f"RMSE of the emulator / {label(others[0]).lower()} (interval over starts); below 1 is better"
    return [title, *_aligned(["days", *(f"{d:g}" for d in leads)], rows)]


def mean_scores(table: pd.DataFrame) -> dict[str, float]:
    """Over all leads and fields: the emulator's normalised RMSE, and its ratio to that of the first baseline; 4 digits."""
    overall = table[table["variable"] == "all"]
    by_forecast = overall.groupby("forecast", sort=False)
    scores = {"nrmse": round(float(by_forecast.get_group(EMULATOR)["nrmse"].mean()), 4)}
    others = [name for name in pd.unique(table["forecast"]) if name != EMULATOR]
    if others:
        scores["ratio"] = round(float(by_forecast.get_group(others[0])["emulator_ratio"].mean()), 4)
    return scores


def _with_interval(cell: pd.Series) -> str:
    interval = "" if pd.isna(cell["ratio_low"]) else f" ({cell['ratio_low']:.2f}-{cell['ratio_high']:.2f})"
    return f"{cell['emulator_ratio']:.2f}{interval}"


def _aligned(head: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return [
        "  "
        + "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, *rows]
    ]
