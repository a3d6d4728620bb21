"""Panels of maps, as several figures have them."""

from dataclasses import dataclass
from typing import Any

import cmocean
import numpy as np
import xarray as xr

from ocean_emulators.figures.style import MAPS, plain_units
from ocean_emulators.ocean.fields import FIELDS

_SHARE = 0.995  # of the cells, which the scale spans: a few at coasts would leave the others pale


@dataclass(frozen=True)
class Scale:
    """Colours, and the values that they end at."""

    colours: Any
    low: float
    high: float


def scale_of(name: str, values: xr.DataArray) -> Scale:
    """For a field, by its values."""
    style = MAPS[name]
    low, high = (float(bound) for bound in np.nanquantile(values, [1 - _SHARE, _SHARE]))
    if style.symmetric:
        high = max(abs(low), abs(high))
        low = -high
    return Scale(getattr(cmocean.cm, style.colours), low, high)


def scale_of_differences(*differences: xr.DataArray) -> Scale:
    """One for all of these, whatever is not finite in them."""
    known = (values.values[np.isfinite(values)] for values in differences)
    # Fields at rest, and perfect predictions, have no extent; give the scale one.
    most = max((float(np.quantile(np.abs(values), _SHARE)) for values in known if values.size), default=0.0) or 1.0
    return Scale(cmocean.cm.delta, -most, most)


def draw_map(axes: Any, values: xr.DataArray, scale: Scale) -> None:
    """A map [lat, lon], grey on land, with its scale beside it."""
    limits = {"vmin": scale.low, "vmax": scale.high}
    mesh = axes.pcolormesh(values["lon"], values["lat"], values, cmap=scale.colours, **limits)
    axes.set_facecolor("0.75")
    axes.figure.colorbar(mesh, ax=axes, pad=0.01, shrink=0.9)


def label_row(axes: Any, name: str) -> None:
    """Name and units of a row's field, beside its first panel."""
    axes.set_ylabel(f"{FIELDS[name].long_name}\n({plain_units(FIELDS[name].units)})", fontsize=8)
