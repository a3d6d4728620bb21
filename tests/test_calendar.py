"""Periods and seasons in the calendars of models."""

import datetime
import itertools

import cftime
import numpy as np
import pytest

from ocean_emulators.errors import UserError
from ocean_emulators.ocean.calendar import check_date, day_of_year_bins, require_days, step_days, within


@pytest.mark.parametrize("calendar", ["noleap", "julian", "360_day"])
def test_both_ends_of_a_period_belong_to_it(calendar: str) -> None:
    time = cftime.num2date(np.arange(0, 90, 0.5), "days since 2000-01-15", calendar=calendar)
    kept = time[within(time, "2000-02-01", "2000-02-28")]
    assert len(kept) == 56
    assert (kept[0].month, kept[0].day, kept[0].hour) == (2, 1, 0)
    assert (kept[-1].month, kept[-1].day, kept[-1].hour) == (2, 28, 12)


@pytest.mark.parametrize("kind", ["noleap", "julian", "360_day", "standard", "proleptic_gregorian", "all_leap"])
def test_a_date_is_refused_at_once_unless_some_calendar_has_it_and_with_the_source_unless_its_own_does(
    kind: str,
) -> None:
    time = cftime.num2date([0], "days since 2000-01-01", calendar=kind)
    for year, month, day in itertools.product((1582, 1900, 2000, 2001), range(14), range(33)):
        text = f"{year}-{month:02d}-{day:02d}"
        try:
            cftime.datetime(year, month, day, calendar=kind)
        except ValueError:
            with pytest.raises((ValueError, UserError), match=text):
                require_days(time, {"data.periods.test.end": check_date(text)})
        else:
            require_days(time, {"data.periods.test.end": check_date(text)})


@pytest.mark.parametrize("text", ["2001-13-01", "2001-00-01", "2001-01-00", "2001-01-32", "2002-06-31", "2001-02-31"])
def test_what_is_a_day_in_no_calendar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"found {text}: there is no"):
        check_date(text)


@pytest.mark.parametrize(
    "text", ["", "2001-1-1", "01-01-2001", "2001-01-01T00", "2001-01-01 ", "٢٠٠١-٠١-٠١", "-001-01-01"]
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a date as YYYY-MM-DD"):
        check_date(text)


def test_days_that_other_calendars_lack_are_days() -> None:
    for calendar, day in (("julian", "1900-02-29"), ("360_day", "1901-02-30")):
        time = cftime.num2date(np.arange(1000), "days since 1900-01-01", calendar=calendar)
        assert within(time, day, day).sum() == 1


@pytest.mark.parametrize("calendar", ["noleap", "julian"])
def test_each_year_has_73_bins_of_five_days(calendar: str) -> None:
    days = [cftime.datetime(year, 1, 1, calendar=calendar) for year in (2000, 2001)]
    time = np.array([start + datetime.timedelta(days=5 * i + 2.5) for start in days for i in range(73)])
    bins, n_bins = day_of_year_bins(time, 5.0)
    assert n_bins == 73
    assert bins.tolist() == [*range(73)] * 2


def test_the_last_bin_takes_the_leap_day() -> None:
    time = np.array([cftime.DatetimeJulian(2000, 12, 31, 23), cftime.DatetimeJulian(2001, 1, 1)])
    assert day_of_year_bins(time, 5.0)[0].tolist() == [72, 0]
    assert day_of_year_bins(time, 1.0)[0].tolist() == [364, 0]


def test_the_step_of_a_leap_year_is_usual_and_a_hole_is_not() -> None:
    steps = np.full(20, 5.0)
    steps[7] = 6
    time = cftime.num2date(np.cumsum(steps), "days since 2000-01-01", calendar="julian")
    assert step_days(time) == 5
    with pytest.raises(UserError, match=rf"the time step is 5 days, but {time[9]} is followed by {time[11]}"):
        step_days(np.delete(time, 10))
    with pytest.raises(UserError, match="at least two are needed"):
        step_days(time[:1])
