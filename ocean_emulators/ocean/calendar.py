"""Model time: periods given as dates, and the season as bins of the year. Works in any calendar that cftime knows."""

import re

import cftime
import numpy as np

from ocean_emulators.errors import UserError
from ocean_emulators.ocean.constants import DAYS_PER_YEAR

DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")


def within(time: np.ndarray, start: str, end: str) -> np.ndarray:
    """Which times lie in the period from the start of day `start` to the end of day `end`, `YYYY-MM-DD`."""
    first, last = _day(start), _day(end)
    days = np.array([(t.year, t.month, t.day) for t in time])
    key = days @ (10_000, 100, 1)
    return (key >= first) & (key <= last)


def season_bins(time: np.ndarray, step_days: float) -> tuple[np.ndarray, int]:
    """For each time, the bin of the year it falls into, bins being one time step long; and the number of bins.

    The last bin also takes the days by which a year is longer than 365.
    """
    n_bins = max(1, round(DAYS_PER_YEAR / step_days))
    day = np.array([t.dayofyr - 1 + (t.hour * 3600 + t.minute * 60 + t.second) / 86_400 for t in time])
    return np.minimum((day / DAYS_PER_YEAR * n_bins).astype(int), n_bins - 1), n_bins


def steps(time: np.ndarray) -> np.ndarray:
    """From each time to the next, days [time - 1]."""
    days = cftime.date2num(time, "days since 1900-01-01", calendar=time[0].calendar)
    return np.diff(np.asarray(days, "f8"))


def step_days(time: np.ndarray) -> float:
    """The time step of a series, days.

    Raises
    ------
    UserError
        If steps differ by more than half of the usual one. (OM4 has 73 five-day means in each year, leap years
        included, and so one step of six days in those.)
    """
    if len(time) < 2:
        raise UserError(f"the series has {len(time)} time(s): at least two are needed")
    days = steps(time)
    step = float(np.median(days))
    odd = np.flatnonzero(np.abs(days - step) > 0.5 * step)
    if len(odd):
        raise UserError(f"the time step is {step:g} days, but {time[odd[0]]} is followed by {time[odd[0] + 1]}")
    return step


def leap_gaps(time: np.ndarray) -> np.ndarray:
    """Where a leap day makes a step one day longer than the usual one: the index of the time before it, [gap].

    OM4's years all have 73 five-day means, so that one step of each leap year has six days. At most one a year counts,
    and only steps that share out a year of 365 days.
    """
    days = steps(time)
    usual = float(np.median(days)) if len(days) else 1.0
    if usual <= 1 or not np.isclose(DAYS_PER_YEAR / usual, round(DAYS_PER_YEAR / usual)):
        return np.array([], int)
    longer = np.flatnonzero(np.isclose(days, usual + 1))
    leap = [int(i) for i in longer if cftime.is_leap_year(time[i].year, time[i].calendar)]
    first_of_year = {time[i].year: i for i in reversed(leap)}
    return np.array(sorted(first_of_year.values()), int)


def _day(date: str) -> int:
    match = DATE.fullmatch(date)
    assert match, date
    year, month, day = map(int, match.groups())
    return year * 10_000 + month * 100 + day
