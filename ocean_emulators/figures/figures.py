"""One pure function a figure: tables and fields in, a matplotlib figure out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cmocean
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from ocean_emulators.eval.report import label
from ocean_emulators.ocean.fields import FIELDS

# Okabe & Ito's palette: told apart by colour-blind readers too.
COLOURS = {
    "emulator": "#000000",
    "persistence": "#D55E00",
    "anomaly_persistence": "#0072B2",
    "damped_anomaly_persistence": "#56B4E9",
    "climatology": "#009E73",
}


@dataclass(frozen=True)
class _MapStyle:
    colours: object
    symmetric: bool


_MAPS = {
    "thetao": _MapStyle(cmocean.cm.thermal, False),
    "so": _MapStyle(cmocean.cm.haline, False),
    "uo": _MapStyle(cmocean.cm.balance, True),
    "vo": _MapStyle(cmocean.cm.balance, True),
    "zos": _MapStyle(cmocean.cm.balance, True),
}


def learning_curve(history: pd.DataFrame) -> Figure:
    """Training and validation loss, and the learning rate, over epochs."""
    figure = _figure(7, 4)
    axes = figure.subplots()
    axes.plot(history["epoch"], history["train/mean/loss"], "o-", ms=3, color="#0072B2", label="training")
    axes.plot(
        history["epoch"], history["val/mean/loss"], "o-", ms=3, color="#D55E00", label="validation (averaged weights)"
    )
    axes.set(xlabel="Epoch", ylabel="Loss (normalised)", title="Learning curve")
    axes.grid(alpha=0.3)
    rate = axes.twinx()
    rate.plot(history["epoch"], history["train/learning_rate"], ":", color="grey", label="learning rate (right)")
    rate.set_ylabel("Learning rate", color="grey")
    rate.tick_params(axis="y", colors="grey")
    lines = [*axes.get_lines(), *rate.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], frameon=False)
    return figure


def score_against_lead(table: pd.DataFrame) -> Figure:
    """Normalised RMSE against lead for each variable, the emulator beside the baselines (table of `compare`)."""
    variables = list(dict.fromkeys(table["variable"]))
    figure = _figure(12, 3.4 * -(-len(variables) // 3))
    grid = figure.subplots(-(-len(variables) // 3), 3, squeeze=False, sharex=True)
    for axes, variable in zip(grid.flat, variables, strict=False):
        for forecast, part in table[table["variable"] == variable].groupby("forecast", sort=False):
            name = str(forecast)
            width = 2.4 if name == "emulator" else 1.3
            axes.plot(part["lead"], part["nrmse"], color=COLOURS.get(name), lw=width, label=label(name))
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


def error_profiles(scores: Mapping[str, xr.DataArray], lead: float) -> Figure:
    """Normalised RMSE by depth for each variable with levels, one line a forecast.

    `scores`: by forecast, nrmse [variable, lev] at lead `lead` (days), with `lev` in m.
    """
    held = next(iter(scores.values()))["variable"].values
    variables = [name for name in FIELDS if name in held]
    figure = _figure(3 * len(variables), 4.2)
    panels = figure.subplots(1, len(variables), squeeze=False, sharey=True)[0]
    for axes, variable in zip(panels, variables, strict=True):
        for forecast, nrmse in scores.items():
            part = nrmse.sel(variable=variable)
            width = 2.4 if forecast == "emulator" else 1.3
            axes.plot(part, part["lev"], "o-", ms=3, lw=width, color=COLOURS.get(forecast), label=label(forecast))
        axes.set(title=label(variable), xlabel="RMSE / standard deviation")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    panels[0].set(ylabel="Depth (m)", yscale="log")
    panels[0].invert_yaxis()
    figure.suptitle(f"Error by depth at {lead:g} days")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def maps(truth: xr.Dataset, prediction: xr.Dataset, when: str) -> Figure:
    """Truth, prediction and error of each variable at its uppermost level; datasets of one time."""
    variables = [name for name in _MAPS if name in truth]
    figure = _figure(13, 2.5 * len(variables) + 0.4)
    panels = figure.subplots(len(variables), 3, squeeze=False, sharex=True, sharey=True)
    for row, name in zip(panels, variables, strict=True):
        pair = [_surface(dataset[name]) for dataset in (truth, prediction)]
        _map_row(row, name, *pair)
    for axes, title in zip(panels[0], ("Truth", "Prediction", "Error (prediction - truth)"), strict=True):
        axes.set_title(title)
    figure.suptitle(when)
    return figure


def _map_row(row: Sequence[object], name: str, truth: xr.DataArray, prediction: xr.DataArray) -> None:
    style, entry = _MAPS[name], FIELDS[name]
    low, high = np.nanquantile(truth, [0.005, 0.995])
    if style.symmetric:
        high = max(abs(low), abs(high))
        low = -high
    error = prediction - truth
    # Fields at rest, and perfect predictions, have no extent; give the scale one.
    most = float(np.nanquantile(np.abs(error), 0.995)) or 1.0
    scales = [
        (truth, style.colours, low, high),
        (prediction, style.colours, low, high),
        (error, cmocean.cm.delta, -most, most),
    ]
    for axes, (values, colours, vmin, vmax) in zip(row, scales, strict=True):
        mesh = axes.pcolormesh(values["lon"], values["lat"], values, cmap=colours, vmin=vmin, vmax=vmax)  # type: ignore[attr-defined]
        axes.set_facecolor("0.75")  # type: ignore[attr-defined]
        axes.figure.colorbar(mesh, ax=axes, pad=0.01, shrink=0.9)  # type: ignore[attr-defined]
    row[0].set_ylabel(f"{entry.long_name}\n({_plain(entry.units)})", fontsize=8)  # type: ignore[attr-defined]


def index_series(series: Mapping[str, xr.DataArray], title: str, units: str) -> Figure:
    """A time series for each of several sources, such as the Nino3.4 index of truth, prediction and climatology."""
    figure = _figure(9, 3.6)
    axes = figure.subplots()
    for name, values in series.items():
        style = {"truth": ("#D55E00", 2.0), "prediction": ("#000000", 2.0)}.get(name, ("grey", 1.0))
        axes.plot(_years(values["time"].values), values, color=style[0], lw=style[1], label=name)
    axes.set(title=title, xlabel="Year", ylabel=_plain(units))
    axes.ticklabel_format(useOffset=False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def drift(error: xr.DataArray, title: str, units: str) -> Figure:
    """Error of global means over a free run, one line a level: `error` is [time, lev]."""
    figure = _figure(9, 4)
    axes = figure.subplots()
    shades = cmocean.cm.deep(np.linspace(0.15, 0.95, error.sizes["lev"]))
    for colour, lev in zip(shades, error["lev"].values, strict=True):
        axes.plot(_years(error["time"].values), error.sel(lev=lev), color=colour, label=f"{lev:.0f} m")
    axes.axhline(0, color="black", lw=0.6)
    axes.set(title=title, xlabel="Year", ylabel=_plain(units))
    axes.ticklabel_format(useOffset=False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", dpi=130)


def _surface(field: xr.DataArray) -> xr.DataArray:
    return field.isel(lev=0) if "lev" in field.dims else field


def _years(time: np.ndarray) -> list[float]:
    return [t.year + (t.dayofyr - 1 + t.hour / 24) / 365 for t in time]


def _plain(units: str) -> str:
    return {"degC": "°C", "1e-3": "g/kg", "m s-1": "m/s", "W m-2": "W/m²"}.get(units, units)
