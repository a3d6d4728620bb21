"""Names, colours and units: what forecasts, variables and fields are called and drawn in, wherever they are shown."""

from dataclasses import dataclass
from typing import Any

from ocean_emulators.forecasting.base import EMULATOR
from ocean_emulators.ocean.fields import FIELDS

LABELS = {
    "all": "All fields",
    EMULATOR: "Emulator",
    "persistence": "Persistence",
    "anomaly_persistence": "Anomaly persistence",
    "damped_anomaly_persistence": "Damped anomaly persistence",
    "climatology": "Day-of-year climatology",
}

# Okabe & Ito's palette: told apart by colour-blind readers too.
COLOURS = {
    EMULATOR: "#000000",
    "persistence": "#D55E00",
    "anomaly_persistence": "#0072B2",
    "damped_anomaly_persistence": "#56B4E9",
    "climatology": "#009E73",
    "truth": "#D55E00",
    "prediction": "#000000",
    "training": "#0072B2",
    "validation": "#D55E00",
}


@dataclass(frozen=True)
class MapStyle:
    """How a field is drawn on a map."""

    colours: str
    """name of a colour map of cmocean"""
    symmetric: bool
    """around zero"""


MAPS = {
    "thetao": MapStyle("thermal", False),
    "so": MapStyle("haline", False),
    "uo": MapStyle("balance", True),
    "vo": MapStyle("balance", True),
    "zos": MapStyle("balance", True),
}


def label(name: str) -> str:
    """What people call a forecast or variable."""
    known = LABELS.get(name) or (FIELDS[name].long_name if name in FIELDS else name)
    return known[0].upper() + known[1:].replace("_", " ")


def line_of(forecast: str) -> dict[str, Any]:
    """Settings of the line that shows a forecast; the emulator's stands out."""
    width = 2.4 if forecast == EMULATOR else 1.3
    return {"color": COLOURS.get(forecast), "lw": width, "label": label(forecast)}


def plain_units(units: str) -> str:
    """Units as a reader writes them."""
    return {"degC": "°C", "1e-3": "g/kg", "m s-1": "m/s", "W m-2": "W/m²"}.get(units, units)
