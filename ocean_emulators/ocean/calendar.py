"""Model time: periods given as dates, time steps, day-of-year bins. Works in any calendar that cftime knows."""

import re
from collections.abc import Mapping

import cftime
import numpy as np

from ocean_emulators.errors import UserError
from ocean_emulators.ocean.constants import DAYS_PER_YEAR

_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_LONGEST_MONTHS = (31, 30, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""days of each month in the calendar in which it has most: February has 30 where all months have"""


def check_date(text: str) -> str:
    """`text` if it is a day, `YYYY-MM-DD`, in any calendar.

    Raises
    ------
    ValueError
        If there is no such day.
    """
    match = _DATE.fullmatch(text)
    if not match:
        raise ValueError(f"found {text!r}: expected a date as YYYY-MM-DD")
    month, day = int(match[2]), int(match[3])
    if not 1 <= month <= 12:
        raise ValueError(f"found {text}: there is no month {month}")
    if not 1 <= day <= _LONGEST_MONTHS[month - 1]:
        raise ValueError(
            f"found {text}: there is no such day in any calendar; month {month} has {_LONGEST_MONTHS[month - 1]}"
        )
    return text


def require_days(time: np.ndarray, days: Mapping[str, str]) -> None:
    """Refuse dates, by their keys in `params.yaml`, that are no days of the calendar of the times [time].

    Raises
    ------
    UserError
        For a date such as 30 February outside of a 360-day calendar.
    """
    for what, date in days.items():
        try:
            cftime.datetime(*map(int, date.split("-")), calendar=time[0].calendar)
        except ValueError:
            raise UserError(
                f"{what}: {date} is no day of the calendar of the source, which is {time[0].calendar}; give one that is"
            ) from None


def within(time: np.ndarray, start: str, end: str) -> np.ndarray:
    """Which times lie in the period from the start of day `start` to the end of day `end`, `YYYY-MM-DD`."""
    first, last = (int(day.replace("-", "")) for day in (start, end))
    days = np.array([(t.year, t.month, t.day) for t in time])
    key = days @ (10_000, 100, 1)
    return (key >= first) & (key <= last)


def day_of_year_bins(time: np.ndarray, step_days: float) -> tuple[np.ndarray, int]:
    """The day-of-year bin that each time [time] falls into, from 0, and the number of bins: each is one time step long.

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
