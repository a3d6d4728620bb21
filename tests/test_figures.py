"""What figures share."""

import cftime
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocean_emulators.figures.time_series import years


@given(st.sampled_from(["noleap", "standard", "julian", "360_day", "all_leap"]), st.integers(1600, 2200))
def test_years_ascend_evenly_in_any_calendar(calendar: str, first: int) -> None:
    """Also over the end of leap years and of years of 360 days."""
    start = cftime.datetime(first, 12, 1, 12, calendar=calendar)
    time = cftime.num2date(np.arange(60), f"days since {start.isoformat(' ')}", calendar=calendar)
    found = years(time)
    assert np.diff(found) == pytest.approx(1 / 365, rel=0.02)
    assert [int(year) for year in found] == [t.year for t in time]
