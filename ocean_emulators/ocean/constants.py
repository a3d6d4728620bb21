"""Physical constants, each with its source."""

EARTH_RADIUS = 6.371e6
"""Mean radius of the Earth, m (IUGG)."""

DAYS_PER_YEAR = 365
"""Days in a year of the no-leap calendar; the day-of-year bins of climatologies divide it."""
