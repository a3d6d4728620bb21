"""The field table: names (CMIP), standard names and units (CF), vertical extent, role; and the channels made of it."""

from dataclasses import dataclass
from enum import StrEnum

from ocean_emulators.config.base import did_you_mean
from ocean_emulators.errors import UserError

UNIT_SPELLINGS = {
    "degC": (
        "degC",
        "°C",
        "deg C",
        "deg_C",
        "Celsius",
        "degree_Celsius",
        "degrees_Celsius",
        "degreeC",
        "degrees C",
        "C",
    ),
    "1e-3": ("1e-3", "0.001", "psu", "PSU", "g kg-1", "g/kg", "g kg^-1", "ppt", "1e-03", "pss-78"),
    "m s-1": ("m s-1", "m/s", "m s^-1", "m s**-1", "meter second-1", "meters/second", "m.s-1"),
    "m": ("m", "meter", "meters", "metre", "metres"),
    "N m-2": ("N m-2", "N/m2", "N/m^2", "N m^-2", "N m**-2", "Pa", "pascal", "newton meter-2"),
    "W m-2": ("W m-2", "W/m2", "W/m^2", "W m^-2", "W m**-2", "watt meter-2"),
}
"""How stores write the units of the field table; all in a row mean the same number."""


class Role(StrEnum):
    """What an emulator does with a field: predict it, or be driven by it."""

    PROGNOSTIC = "prognostic"
    FORCING = "forcing"


@dataclass(frozen=True)
class Field:
    """One physical field, at one depth (`has_levels` false) or at all of them."""

    name: str
    standard_name: str
    long_name: str
    units: str
    role: Role
    has_levels: bool
    anomaly_of: str | None = None
    """The field whose departure from its day-of-year mean this one is, if a source does not hold it."""

    def has_units(self, text: str) -> bool:
        """Whether units as a store writes them are those of the table."""
        return "".join(text.split()).casefold() in {
            "".join(spelling.split()).casefold() for spelling in UNIT_SPELLINGS[self.units]
        }


_P, _F = Role.PROGNOSTIC, Role.FORCING
FIELDS = {
    field.name: field
    for field in (
        Field("thetao", "sea_water_potential_temperature", "Potential temperature", "degC", _P, True),
        Field("so", "sea_water_salinity", "Salinity", "1e-3", _P, True),
        Field("uo", "eastward_sea_water_velocity", "Eastward velocity", "m s-1", _P, True),
        Field("vo", "northward_sea_water_velocity", "Northward velocity", "m s-1", _P, True),
        Field("zos", "sea_surface_height_above_geoid", "Sea surface height", "m", _P, False),
        Field("tauuo", "surface_downward_eastward_stress", "Eastward surface stress", "N m-2", _F, False),
        Field("tauvo", "surface_downward_northward_stress", "Northward surface stress", "N m-2", _F, False),
        Field("hfds", "surface_downward_heat_flux_in_sea_water", "Downward surface heat flux", "W m-2", _F, False),
        Field(
            "hfds_anomalies",
            "surface_downward_heat_flux_in_sea_water",
            "Anomaly of the downward surface heat flux",
            "W m-2",
            _F,
            False,
            anomaly_of="hfds",
        ),
    )
}


def field(name: str) -> Field:
    """The entry of the field table.

    Raises
    ------
    UserError
        If there is no such field.
    """
    if name not in FIELDS:
        raise UserError(f"no field {name!r}; {did_you_mean(name, FIELDS)}")
    return FIELDS[name]


@dataclass(frozen=True)
class Channel:
    """A field at one level (counted from the surface), or a field without levels (`level` None)."""

    field: Field
    level: int | None = None

    @property
    def name(self) -> str:
        """As in OM4 stores: `thetao_3`, `zos`."""
        return self.field.name if self.level is None else f"{self.field.name}_{self.level}"

    @property
    def mask_level(self) -> int:
        """The level whose wet mask holds for this channel: fields without levels live at the surface."""
        return self.level or 0


def channels(names: list[str] | tuple[str, ...], levels: list[int] | tuple[int, ...]) -> tuple[Channel, ...]:
    """The channels of some fields, field by field, each from the surface down."""
    return tuple(
        Channel(field(name), level) for name in names for level in (levels if field(name).has_levels else (None,))
    )


def channel(name: str) -> Channel:
    """The channel with a given name, `thetao_3` or `zos`; the inverse of `Channel.name`.

    Raises
    ------
    UserError
        If there is no such field, or it has no levels where one is named, or has them where none is.
    """
    if name in FIELDS and not FIELDS[name].has_levels:
        return Channel(FIELDS[name])
    stem, _, level = name.rpartition("_")
    if not level.isdigit() or not field(stem).has_levels:
        raise UserError(f"no channel {name!r}: expected a name such as thetao_0 or zos")
    return Channel(field(stem), int(level))
