"""What is refused before any work: each message names the field, the index and the way out."""

import datetime
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from ocean_emulators.config.base import parse
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.source.selection import select
from ocean_emulators.datasets.source.validation import read_block, validate_steps
from ocean_emulators.errors import UserError
from ocean_emulators.ocean import calendar
from ocean_emulators.ocean.fields import FIELDS, UNIT_SPELLINGS
from ocean_emulators.testing.coded_ocean import om4_times
from tests import tiny

Change = Callable[[xr.Dataset], xr.Dataset]
START = "2000-01-03 12:00:00"


def config(source: Path | str, **changes: Any) -> DataConfig:
    return parse(DataConfig, {**tiny.experiment(source)["data"], **changes}, "tiny")


def written(dataset: xr.Dataset, path: Path) -> Path:
    dataset.to_zarr(path, zarr_format=2)
    return path


def refusal(change: Change, tmp_path: Path, **changes: Any) -> str:
    path = written(change(tiny.dataset()), tmp_path / "s.zarr")
    with pytest.raises(UserError) as caught:
        select(config(path, **changes))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def set_value(name: str, index: dict[str, Any], value: float) -> Change:
    def change(dataset: xr.Dataset) -> xr.Dataset:
        dataset[name][index] = value
        return dataset

    return change


def set_coordinate(name: str, index: int, value: float) -> Change:
    def change(dataset: xr.Dataset) -> xr.Dataset:
        values = dataset[name].values.astype("f8")
        values[index] = value
        return dataset.assign_coords({name: values})

    return change


def with_units(name: str, units: str) -> Change:
    def change(dataset: xr.Dataset) -> xr.Dataset:
        dataset[name].attrs["units"] = units
        return dataset

    return change


def times(order: list[int]) -> Change:
    return lambda dataset: dataset.isel(time=order)


def on_another_grid(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.assign(so_1=dataset["so_1"].rename(x="xq"))


REFUSALS: dict[str, tuple[Change, str]] = {
    "no variable": (lambda d: d.drop_vars("so_1"), r"has no variable 'so_1'; of so it has level\(s\) 0"),
    "times unsorted": (
        times([0, 1, 3, 2, *range(4, 219)]),
        r"2000-01-18 12:00:00 is followed by the earlier 2000-01-13 12:00:00 \(times 2 and 3\); give each time once",
    ),
    "time twice": (times([0, 1, 1, *range(2, 219)]), r"2000-01-08 12:00:00 comes twice \(times 1 and 2\)"),
    "hole": (
        times([*range(60), *range(61, 219)]),
        r"the time step is 5 days, but 2000-10-25 12:00:00 is followed by .* \(times 59 and 60\); fill the hole",
    ),
    "another grid": (on_another_grid, r"so_1 is float32 on \('time', 'lat', 'xq'\), expected numbers on \(time, lat"),
    "kelvin": (
        with_units("thetao_0", "K"),
        r"thetao_0 is in 'K', expected degC \(potential temperature\); kelvin are not converted here; convert",
    ),
    "units": (
        with_units("uo_1", "cm/s"),
        r"uo_1 is in 'cm/s', expected m s-1 .*; convert the source to m s-1, or mend",
    ),
    "nan in latitude": (set_coordinate("y", 3, np.nan), r"the coordinate lat\[3\] is nan"),
    "latitudes": (
        set_coordinate("y", 3, 80),
        r"lat does not ascend: lat\[3\] = 80 is followed by -39.375; sort the source by lat",
    ),
    "depths": (set_coordinate("lev", 1, 5), r"lev does not ascend: lev\[0\] = 10 is followed by 5"),
    "longitudes": (set_coordinate("x", 5, 66), r"longitudes of the grid are not 32 equal steps"),
    "thickness": (lambda d: d.assign(dz=("lev", [20.0, 0.0])), r"dz\[1\] is 0.0; mend the store"),
    "area": (
        lambda d: d.assign(areacello=(("y", "x"), np.where(np.arange(32) == 30, -1.0, np.ones((16, 1))))),
        r"areacello\[1, 30\] is -1.0; mend the store",
    ),
    "nan in the mask": (
        set_value("so_1", {"time": 0, "y": 9, "x": 1}, np.nan),
        rf"so_1 has no value at {START} in 1 cell\(s\), the first \[9, 1\] at latitude 16.875, longitude 16.875, that mask_1",
    ),
    "infinity in the mask": (
        set_value("zos", {"time": 0, "y": 9, "x": 1}, np.inf),
        rf"zos has no value at {START} in 1 cell\(s\), .* that mask_0 calls wet; mend the store or its mask",
    ),
    "another mask": (
        set_value("vo_1", {"time": 0, "y": 0, "x": 31}, 3.0),
        rf"vo_1 has values at {START} in 1 cell\(s\), the first \[0, 31\] .* that mask_1 calls land, and none on other",
    ),
    "no dates": (
        lambda d: d.assign_coords(time=np.arange(219.0)),
        r"the times can't be read as dates; `time` needs entries, units",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_broken_is_refused_with_its_place(name: str, tmp_path: Path) -> None:
    change, message = REFUSALS[name]
    assert re.search(message, refusal(change, tmp_path))


def test_a_forcing_that_can_be_derived_is_asked_for_by_both_names(tmp_path: Path) -> None:
    message = refusal(lambda d: d.drop_vars("hfds"), tmp_path, forcing=["hfds_anomalies"])
    assert "no variable 'hfds_anomalies', nor 'hfds' to derive it from" in message


def test_arrays_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = written(tiny.dataset(), tmp_path / "s.zarr")
    group = zarr.open_group(path, mode="r+")
    del group["so_1"]
    group.create_array("so_1", shape=(219, 16, 16), dtype="f4", attributes={"_ARRAY_DIMENSIONS": ["time", "y", "x"]})
    zarr.consolidate_metadata(str(path), zarr_format=2)
    with pytest.raises(
        UserError, match=r"s.zarr: conflicting sizes for dimension 'x'.*so_1.*all variables must be on one"
    ):
        select(config(path))


def test_land_may_be_missing_zero_or_of_a_field_that_knows_no_land(tmp_path: Path) -> None:
    dataset = tiny.dataset()
    dataset["so_0"] = dataset["so_0"].fillna(0.0)
    dataset["hfds"] = dataset["hfds"].fillna(7.0)
    select(config(written(dataset, tmp_path / "s.zarr")))


def test_what_is_broken_outside_of_what_is_asked_for_does_no_harm(tmp_path: Path) -> None:
    dataset = times([*range(60), *range(61, 219)])(tiny.dataset())
    dataset["so_1"][10:] = np.nan
    dataset["so_1"].attrs["units"] = "furlong"
    periods = {
        "train": {"start": "2001-01-01", "end": "2001-06-30"},
        "validation": {"start": "2001-07-01", "end": "2001-12-31"},
        "test": {"start": "2002-01-01", "end": "2002-12-31"},
    }
    select(config(written(dataset, tmp_path / "s.zarr"), levels=[0], periods=periods))


@pytest.mark.parametrize("name", FIELDS)
def test_every_spelling_of_units_is_understood(name: str) -> None:
    entry = FIELDS[name]
    assert entry.has_units(entry.units)
    for units, spellings in UNIT_SPELLINGS.items():
        assert all(entry.has_units(s) == (units == entry.units) for s in spellings)
    assert not entry.has_units("K")


def shifted(n: int, step: float, extra: dict[int, float], kind: str) -> np.ndarray:
    steps = np.full(n - 1, float(step))
    for i, days in extra.items():
        steps[i] += days
    start = cftime.datetime(2000, 1, 3, 12, calendar=kind)
    return np.array([start + datetime.timedelta(days=d) for d in np.concatenate([[0.0], np.cumsum(steps)])])


@pytest.mark.parametrize("kind", ["julian", "standard", "proleptic_gregorian"])
def test_one_long_step_a_leap_year_is_counted_and_no_other(kind: str) -> None:
    data = config("s")
    validate_steps(om4_times(4745), slice(0, 4745), data)
    time = shifted(200, 5, {40: 1}, kind)
    validate_steps(time, slice(0, len(time)), data)
    assert calendar.leap_gaps(time).tolist() == [40]
    for extra in ({40: 1, 60: 1}, {100: 1}, {40: 2}, {40: -1}):
        with pytest.raises(UserError, match="the time step is 5 days, but"):
            validate_steps(shifted(200, 5, extra, kind), slice(0, None), data)


@pytest.mark.parametrize("kind", ["julian", "noleap", "standard", "gregorian", "proleptic_gregorian", "360_day"])
def test_stores_in_any_calendar_are_read_by_date(kind: str, tmp_path: Path) -> None:
    dataset = tiny.dataset().isel(time=slice(0, 146))
    dataset["time"] = cftime.num2date(5 * np.arange(146) + 2.5, "days since 2000-01-01", calendar=kind)
    last = "2000-12-30" if kind == "360_day" else "2000-12-31"
    periods = {
        "train": {"start": "2000-01-01", "end": last},
        "validation": {"start": "2001-01-01", "end": "2001-06-30"},
        "test": {"start": "2001-07-01", "end": "2001-10-30"},
    }
    selected = select(config(written(dataset, tmp_path / "s.zarr"), periods=periods))
    time = selected["time"].values
    assert time[0].calendar in (kind, {"gregorian": "standard"}.get(kind))
    assert str(time[0]) == START
    assert max(time) <= cftime.datetime(2001, 10, 30, 23, calendar=kind)
    assert calendar.within(time, "2000-01-01", last).sum() == (72 if kind == "360_day" else 73)


def test_without_leap_years_there_is_no_long_step() -> None:
    with pytest.raises(UserError, match="the time step is 5 days, but"):
        validate_steps(shifted(200, 5, {40: 1}, "noleap"), slice(0, None), config("s"))


@pytest.mark.parametrize("kind", ["julian", "noleap", "standard"])
def test_months_are_even(kind: str) -> None:
    time = [cftime.datetime(y, m, 15, calendar=kind) for y in (2000, 2001, 2002) for m in range(1, 13)]
    validate_steps(np.array(time), slice(0, None), config("s"))
    with pytest.raises(UserError, match="is followed by"):
        validate_steps(np.array(time[:5] + time[6:]), slice(0, None), config("s"))


@given(st.integers(3, 60), st.data())
def test_a_hole_is_always_seen(n: int, data: st.DataObject) -> None:
    time = shifted(n + 2, data.draw(st.sampled_from([1.0, 5.0, 10.0])), {}, "julian")
    hole = data.draw(st.integers(1, n))
    with pytest.raises(UserError, match=re.escape(f"{time[hole - 1]} is followed by {time[hole + 1]}")):
        validate_steps(np.delete(time, hole), slice(0, None), config("s"))


def damaged(path: Path, name: str, damage: Callable[[bytes], bytes], **encoding: Any) -> Path:
    dataset = tiny.dataset().drop_encoding()
    dataset.to_zarr(path, zarr_format=2, encoding={name: {"chunks": (73, 16, 32), **encoding}})
    chunk = path / name / "1.0.0"
    chunk.write_bytes(damage(chunk.read_bytes()))
    return path


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "random": lambda content: np.random.default_rng(0).bytes(len(content)),
}


@pytest.mark.parametrize(("how", "packed"), [(h, p) for h in DAMAGE for p in (True, False) if p or h != "random"])
def test_a_chunk_that_cannot_be_read_is_named(how: str, packed: bool, tmp_path: Path) -> None:
    path = damaged(tmp_path / "s.zarr", "so_1", DAMAGE[how], **({} if packed else {"compressors": None}))
    dataset = select(config(path))
    assert read_block(dataset.isel(time=slice(0, 73)), ["so_0", "so_1"], "here").sizes["time"] == 73
    # Of a chunk that is not compressed only what is asked for is read: the first half is still there.
    first = "2001-07-02" if how == "truncated" and not packed else "2001-01-03"
    with pytest.raises(UserError, match=rf"^here: so_1 at {first} 12:00:00 can't be read \(.*\); its chunk is damaged"):
        read_block(dataset.isel(time=slice(70, 146)), ["so_0", "so_1"], "here")


def test_a_damaged_first_chunk_is_refused_before_any_work(tmp_path: Path) -> None:
    path = damaged(tmp_path / "s.zarr", "so_1", lambda content: content)
    (path / "so_1" / "0.0.0").write_bytes(b"")
    with pytest.raises(UserError, match=rf"s.zarr: so_1 at {START} can't be read"):
        prepare(config(path), tmp_path / "ocean.packed")
