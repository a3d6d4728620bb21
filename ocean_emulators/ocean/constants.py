"""Physical constants, each with its source."""

EARTH_RADIUS = 6.371e6
"""Mean radius of the Earth, m (IUGG)."""

DAYS_PER_YEAR = 365
"""Days in a year of the no-leap calendar; the day-of-year bins of climatologies divide it."""

SEA_WATER_DENSITY = 1035.0
"""Reference density of sea water, kg m-3, of MOM6's Boussinesq equations, in which OM4 was run."""

SEA_WATER_HEAT_CAPACITY = 3992.0
"""Specific heat of sea water at constant pressure, J kg-1 K-1: that of TEOS-10 (IOC et al. 2010), rounded."""
