"""Names, colours and units: what forecasts, variables and fields are called and drawn in, wherever they are shown."""

from dataclasses import dataclass

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
}


@dataclass(frozen=True)
class MapStyle:
    """How a field is drawn on a map."""

    colours: str
    """name of a colour map of cmocean's"""
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
    """How a forecast or variable is called by people."""
    known = LABELS.get(name) or (FIELDS[name].long_name if name in FIELDS else name)
    return known[0].upper() + known[1:].replace("_", " ")


def plain_units(units: str) -> str:
    """Units as a reader writes them."""
    return {"degC": "°C", "1e-3": "g/kg", "m s-1": "m/s", "W m-2": "W/m²"}.get(units, units)
