"""What is refused before any work, from metadata and one state; and how a chunk that can't be read is told.

Every refusal names the store, the field, the index where there is one (time, level, cell), and the way out.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import xarray as xr

from ocean_emulators.config.base import did_you_mean
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.errors import UserError, brief
from ocean_emulators.files import explain, is_machine_error
from ocean_emulators.ocean import calendar
from ocean_emulators.ocean.fields import Channel, channel
from ocean_emulators.ocean.grid import Grid

_MONTH_DAYS = (28, 31)
_DIMENSIONS = {"time", "lat", "lon"}


def validate_metadata(dataset: xr.Dataset, config: DataConfig) -> None:
    """Refuse a canonical dataset that lacks or contradicts what an experiment needs, from metadata and coordinates.

    Raises
    ------
    UserError
        For a missing variable or level; a variable on another grid, in other units, or not of numbers; coordinates,
        areas or thicknesses that are not finite, ascending or positive; times that are unsorted or come twice.
    """
    where = f"data.source: {config.source}"
    _require_levels(dataset, config)
    for name in ("lat", "lon", "lev"):
        _require_ascending(dataset[name].values, name, where)
    try:
        Grid.from_dataset(dataset)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    _require_sorted_times(dataset["time"].values, where)
    _require_positive(dataset["dz"], where)
    if "areacello" in dataset:
        _require_positive(dataset["areacello"].where(dataset["mask_0"], 1.0), where)
    for name in source_names(dataset, config):
        _require_on_grid(dataset[name], where)
        _require_units(dataset[name], channel(name), where)


def source_names(dataset: xr.Dataset, config: DataConfig) -> list[str]:
    """The variables that an experiment reads: its channels, or for a derived one the field that it is derived from.

    Raises
    ------
    UserError
        If the dataset has neither.
    """
    names = []
    for c in config.prognostic_channels + config.forcing_channels:
        base = c.field.anomaly_of
        if c.name in dataset or base is None:
            names.append(c.name)
        else:
            names.append(base)
        if names[-1] not in dataset:
            wanted = repr(c.name) if base is None else f"{c.name!r}, nor {base!r} to derive it from"
            raise UserError(f"data: {config.source} has no variable {wanted}; {_what_there_is(dataset, c, names[-1])}")
    return list(dict.fromkeys(names))


def _what_there_is(dataset: xr.Dataset, wanted: Channel, name: str) -> str:
    levels = [str(k) for k in range(dataset.sizes["lev"]) if f"{wanted.field.name}_{k}" in dataset]
    if wanted.level is not None and levels:
        return f"of {wanted.field.name} it has level(s) {', '.join(levels)}"
    return did_you_mean(name, [str(n) for n, v in dataset.data_vars.items() if "time" in v.dims])


def validate_steps(times: np.ndarray, span: slice, config: DataConfig) -> None:
    """Refuse a hole in the part `span` of the times [time], or a step that is not like the others.

    One step of a leap year may be a day longer (`calendar.leap_gaps`), and months may differ as they do.

    Raises
    ------
    UserError
        Naming the first such step.
    """
    time = times[span]
    days = calendar.steps(time)
    step = float(np.median(days)) if len(days) else calendar.step_days(time)
    even = np.isclose(days, step, rtol=0.01)
    even[calendar.leap_gaps(time)] = True
    if even.all() or (_MONTH_DAYS[0] <= days.min() and days.max() <= _MONTH_DAYS[1]):
        return
    i = int(np.flatnonzero(~even)[0])
    raise UserError(
        f"data.source: {config.source}: the time step is {step:g} days, but {time[i]} is followed by {time[i + 1]} "
        f"(times {span.start + i} and {span.start + i + 1}); fill the hole, or choose periods beside it"
    )


def validate_state(state: xr.Dataset, config: DataConfig) -> None:
    """Refuse a state (one time, `time` a scalar) that contradicts the masks; what an experiment reads of it is loaded.

    Raises
    ------
    UserError
        If a channel has no value in a cell that its level's mask calls wet, or values on a part of the land: then the
        mask is another variable's. (Values on all land are those of a field that knows no land, and are not used.)
    """
    where = f"data.source: {config.source}"
    names = source_names(state, config)
    masks = sorted({f"mask_{channel(name).mask_level}" for name in names})
    loaded = read_block(state, [*names, *masks], where)
    for name in names:
        mask = f"mask_{channel(name).mask_level}"
        values, wet = (loaded[n].transpose("lat", "lon").values for n in (name, mask))
        missing = wet & ~np.isfinite(values)
        if missing.any():
            raise UserError(
                f"{where}: {name} has no value at {state['time'].item()} in {_cells(missing, state)} that {mask} calls wet; "
                "mend the store or its mask"
            )
        stray = ~wet & np.isfinite(values) & (values != 0)
        if stray.any() and not stray[~wet].all():
            raise UserError(
                f"{where}: {name} has values at {state['time'].item()} in {_cells(stray, state)} that {mask} calls land, "
                "and none on other land: its mask is not the one of its level; mend the store or its mask"
            )


def read_block(block: xr.Dataset, names: Sequence[str], where: str) -> xr.Dataset:
    """Load variables of a (small) part of a dataset; `where` begins messages.

    Raises
    ------
    UserError
        If a chunk can't be read or decoded, naming the variable and the first such time.
    """
    try:
        return block[list(names)].load()
    except MemoryError:
        raise
    except Exception:  # codecs and file systems raise what they like
        parts = [_read_by_time(block[name], where) for name in names]
    return xr.merge(parts)


def _read_by_time(field: xr.DataArray, where: str) -> xr.DataArray:
    if "time" not in field.dims:
        with _reading(str(field.name), where, field.coords.get("time")):
            return field.load()
    states = []
    for i in range(field.sizes["time"]):
        with _reading(str(field.name), where, field["time"][i]):
            states.append(field.isel(time=slice(i, i + 1)).load())
    return xr.concat(states, "time")


@contextmanager
def _reading(name: str, where: str, time: xr.DataArray | None = None) -> Iterator[None]:
    """Turn whatever goes wrong in reading a variable into a `UserError` that names it, and the time (a scalar)."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # codecs and file systems raise what they like
        at = "" if time is None else f" at {time.item()}"
        if is_machine_error(error):
            raise UserError(f"{where}: {name}{at} can't be read: {explain(error)}") from error
        raise UserError(
            f"{where}: {name}{at} can't be read ({brief(error)}); its chunk is damaged or out of reach: restore it"
        ) from error


def _require_levels(dataset: xr.Dataset, config: DataConfig) -> None:
    n = dataset.sizes["lev"]
    if config.levels[-1] >= n:
        raise UserError(
            f"data.levels: level {config.levels[-1]} asked for, but {config.source} has levels 0 to {n - 1}"
        )


def _require_ascending(values: np.ndarray, name: str, where: str) -> None:
    for i in np.flatnonzero(~np.isfinite(values)):
        raise UserError(f"{where}: the coordinate {name}[{i}] is {values[i]}; mend the store")
    for i in np.flatnonzero(np.diff(values) <= 0):
        raise UserError(
            f"{where}: {name} does not ascend: {name}[{i}] = {values[i]:g} is followed by {values[i + 1]:g}; "
            f"sort the source by {name}"
        )


def _require_sorted_times(time: np.ndarray, where: str) -> None:
    days = calendar.steps(time)
    for i in np.flatnonzero(days <= 0):
        fault = "comes twice" if days[i] == 0 else f"is followed by the earlier {time[i + 1]}"
        raise UserError(f"{where}: {time[i]} {fault} (times {i} and {i + 1}); give each time once, in order")


def _require_positive(array: xr.DataArray, where: str) -> None:
    for index in np.argwhere(~(np.isfinite(array.values) & (array.values > 0))):
        at = ", ".join(map(str, index))
        raise UserError(f"{where}: {array.name or 'areacello'}[{at}] is {array.values[tuple(index)]}; mend the store")


def _require_on_grid(field: xr.DataArray, where: str) -> None:
    if set(field.dims) != _DIMENSIONS or not np.issubdtype(field.dtype, np.number):
        raise UserError(
            f"{where}: {field.name} is {field.dtype} on {tuple(map(str, field.dims))}, expected numbers on "
            "(time, lat, lon) as the other fields; interpolate it to their grid first"
        )


def _require_units(field: xr.DataArray, of: Channel, where: str) -> None:
    units = field.attrs.get("units")
    if units is None or of.field.has_units(str(units)):
        return
    hint = "; kelvin are not converted here" if str(units).strip() in ("K", "kelvin", "degK") else ""
    raise UserError(
        f"{where}: {field.name} is in {units!r}, expected {of.field.units} ({of.field.long_name.lower()}){hint}; "
        f"convert the source to {of.field.units}, or mend its attribute `units`"
    )


def _cells(where: np.ndarray, dataset: xr.Dataset) -> str:
    """The number of marked cells [lat, lon] and the first of them, in words."""
    j, i = np.argwhere(where)[0]
    lat, lon = float(dataset["lat"][j]), float(dataset["lon"][i])
    return f"{int(where.sum())} cell(s), the first [{j}, {i}] at latitude {lat:g}, longitude {lon:g},"
