"""What a source holds, in words: for people who look at a store before they use it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.source.layouts import layout_of, read_as_it_is, to_canonical
from ocean_emulators.datasets.source.location import Location, access_errors
from ocean_emulators.datasets.source.selection import select_from
from ocean_emulators.datasets.source.validation import read_block
from ocean_emulators.errors import UserError
from ocean_emulators.ocean import calendar
from ocean_emulators.ocean.fields import FIELDS, Field, channels
from ocean_emulators.ocean.grid import Grid

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def describe_source(location: Location, presets: Mapping[str, DataConfig]) -> str:
    """A text of several lines: storage, layout, fields, grid, times, levels, missing values, and what each preset (by
    name) would make of the source, or why it would be refused.

    Reads metadata, coordinates, masks, and two states. A source that no preset could use is described as far as it goes.

    Raises
    ------
    UserError
        If there is no store, or it can't be reached.
    """
    raw = read_as_it_is(location)
    sections = {"source": [location.url], "storage": list(_storage(location)), "layout": [_layout(raw)]}
    try:
        with access_errors(location):
            dataset = to_canonical(raw, location.name)
        constant = [str(name) for name, v in dataset.data_vars.items() if "time" not in v.dims]
        dataset = dataset.assign(read_block(dataset, constant, location.name))
    except UserError as error:
        held = ", ".join(f"{name}{_sizes(v)}" for name, v in raw.variables.items())
        return _render(sections | {"holds": [held], "unusable": [str(error)]})
    sections["fields"] = list(_fields(dataset))
    for name, part in (("grid", _grid), ("time", _time), ("levels", _levels), ("values", _values)):
        try:
            sections[name] = list(part(dataset))
        except UserError as error:
            sections[name] = [f"refused: {error}"]
    for name, config in presets.items():
        sections[f"as {name}"] = list(_as_preset(dataset, config, location))
    return _render(sections)


def _render(sections: Mapping[str, list[str]]) -> str:
    width = max(map(len, sections))
    lines = [
        f"{name if i == 0 else '':>{width}}  {line}" for name, part in sections.items() for i, line in enumerate(part)
    ]
    return "\n".join(line.rstrip() for line in lines)


def _storage(location: Location) -> Iterator[str]:
    with access_errors(location):
        group = zarr.open_group(location.open(), mode="r")
        arrays = dict(group.arrays())
    total = sum(array.nbytes for array in arrays.values())
    size = f"{_bytes(total)} uncompressed"
    if not location.is_remote:
        path = Path(location.url)
        stored = sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) if path.is_dir() else path.stat().st_size
        size += f", {_bytes(stored)} stored"
    consolidated = "" if group.metadata.consolidated_metadata is not None else ", metadata not consolidated"
    yield f"Zarr version {group.metadata.zarr_format}, {len(arrays)} arrays, {size}{consolidated}"
    kinds: dict[str, list[str]] = {}
    for name, array in arrays.items():
        if array.ndim >= 3 and array.shape[0] > 1:
            codec = ", ".join(type(c).__name__ for c in array.compressors) or "not compressed"
            shards = f" in shards of {_by(array.shards)}" if array.shards else ""
            kinds.setdefault(f"chunks of {_by(array.chunks)}{shards}, {array.dtype}, {codec}", []).append(name)
    for kind, names in kinds.items():
        yield f"{kind}: {_some(names)}"


def _layout(raw: xr.Dataset) -> str:
    layout = layout_of(raw)
    depths = "depths given" if layout.has_depths else "no depths: OM4's are taken"
    return f"{layout.generation}: levels {layout.levels}, masks {layout.masks}, {depths}"


@dataclass(frozen=True)
class _Held:
    """A field of the table, as a source holds it."""

    field: Field
    names: list[str]

    @property
    def text(self) -> str:
        """Its name and levels."""
        if not self.field.has_levels:
            return self.field.name
        levels = [int(name.rpartition("_")[2]) for name in self.names]
        whole = levels == list(range(levels[0], levels[-1] + 1))
        return f"{self.field.name}, levels {f'{levels[0]}-{levels[-1]}' if whole else ', '.join(map(str, levels))}"


def _held(dataset: xr.Dataset) -> list[_Held]:
    levels = range(dataset.sizes["lev"])
    parts = [(f, [c.name for c in channels([f.name], list(levels)) if c.name in dataset]) for f in FIELDS.values()]
    return [_Held(f, names) for f, names in parts if names]


def _fields(dataset: xr.Dataset) -> Iterator[str]:
    held = _held(dataset)
    for entry in held:
        units = sorted({str(dataset[name].attrs.get("units", "no units")) for name in entry.names})
        odd = [u for u in units if u != "no units" and not entry.field.has_units(u)]
        note = f" (expected {entry.field.units}: would be refused)" if odd else ""
        yield f"{entry.text}: {', '.join(units)}{note}"
    absent = [f for f in FIELDS.values() if f.name not in {entry.field.name for entry in held}]
    present = {entry.field.name for entry in held}
    for f in absent:
        yield f"no {f.name}" + (f": can be derived from {f.anomaly_of}" if f.anomaly_of in present else "")
    known = {name for entry in held for name in entry.names}
    others = [str(n) for n, v in dataset.data_vars.items() if "time" in v.dims and n not in known]
    if others:
        yield f"not in the field table: {_some(others)}"


def _grid(dataset: xr.Dataset) -> Iterator[str]:
    grid = Grid.from_dataset(dataset)
    for name, values, unit in (("latitude", grid.lat, "°N"), ("longitude", grid.lon, "°E")):
        steps = np.diff(values)
        every = f"{steps.mean():.4g}°" if np.allclose(steps, steps[0], rtol=1e-3) else _range(steps) + "°"
        yield f"{len(values)} {name}s, {values[0]:g} to {values[-1]:g} {unit}, every {every}"
    given = "given" if "areacello" in dataset else "computed from the coordinates"
    yield f"cell areas {given}, {grid.area.sum() / 1e12:.4g} million km2 together"


def _time(dataset: xr.Dataset) -> Iterator[str]:
    time = dataset["time"].values
    days = calendar.steps(time)
    yield f"{len(time)} times from {time[0]} to {time[-1]}, {time[0].calendar} calendar"
    if not len(days):
        return
    usual, gaps = float(np.median(days)), calendar.leap_gaps(time)
    odd = np.setdiff1d(np.flatnonzero(~np.isclose(days, usual, rtol=0.01)), gaps)
    leap = f", {len(gaps)} of {usual + 1:g} days in leap years" if len(gaps) else ""
    yield f"every {usual:g} days{leap}"
    if len(odd):
        yield f"{len(odd)} other step(s), of {_range(days[odd])} days, the first after {time[odd[0]]} (time {odd[0]})"


def _levels(dataset: xr.Dataset) -> Iterator[str]:
    depth, thickness = dataset["lev"].values, dataset["dz"].values
    yield " level  depth (m)  thickness (m)  wet cells"
    for k in range(len(depth)):
        wet = dataset[f"mask_{k}"].values
        yield f"{k:>6}  {depth[k]:>9g}  {thickness[k]:>13g}  {int(wet.sum()):>9,} ({wet.mean():.0%})"


def _values(dataset: xr.Dataset) -> Iterator[str]:
    """Missing values in wet cells, and what stands on land, at the first and the last time."""
    for i in dict.fromkeys((0, dataset.sizes["time"] - 1)):
        state = dataset.isel(time=i)
        land: dict[str, list[str]] = {}
        faults: list[str] = []
        for entry in _held(dataset):
            names = [(name, f"mask_{c.mask_level}") for name, c in _masks_of(entry)]
            loaded = read_block(state, [*dict.fromkeys(n for pair in names for n in pair)], "values")
            missing = sum(int((loaded[m] & ~np.isfinite(loaded[n])).sum()) for n, m in names)
            if missing:
                faults.append(f"{entry.field.name} has none in {missing:,} wet cell(s)")
            on_land = np.concatenate([loaded[n].values[~loaded[m].values] for n, m in names])
            land.setdefault(_kind_of_land(on_land), []).append(entry.field.name)
        yield f"{state['time'].item()}: {'; '.join(faults) or 'every wet cell has a value'}"
        yield "; ".join(f"land is {kind} in {_some(names)}" for kind, names in land.items())


def _masks_of(entry: _Held) -> list[tuple[str, Any]]:
    levels = [int(name.rpartition("_")[2]) for name in entry.names] if entry.field.has_levels else [0]
    return [(c.name, c) for c in channels([entry.field.name], levels)]


def _kind_of_land(values: np.ndarray) -> str:
    if not len(values):
        return "absent"
    kinds = {"NaN": np.isnan(values).any(), "0": (values == 0).any()}
    other = int((np.isfinite(values) & (values != 0)).sum())
    found = [name for name, is_there in kinds.items() if is_there] + ([f"{other:,} other value(s)"] if other else [])
    return " and ".join(found)


def _as_preset(dataset: xr.Dataset, config: DataConfig, location: Location) -> Iterator[str]:
    config = config.model_copy(update={"source": location.name})
    try:
        selected = select_from(dataset, config)
    except UserError as error:
        yield f"refused: {error}"
        return
    prognostic, forcing = config.prognostic_channels, config.forcing_channels
    yield f"{len(prognostic)} channels predicted, {len(forcing)} given; {selected.sizes['lat']} × {selected.sizes['lon']}"
    time = selected["time"].values
    for name in type(config.periods).model_fields:
        period = getattr(config.periods, name)
        inside = time[calendar.within(time, period.start, period.end)]
        gaps = len(calendar.leap_gaps(inside)) if len(inside) > 1 else 0
        note = f", {gaps} longer step(s) in leap years" if gaps else ""
        yield f"{name}: {period.start} to {period.end}: {len(inside)} times{note}"


def _bytes(number: int) -> str:
    power = min(max(0, number.bit_length() - 1) // 10, len(_UNITS) - 1)
    return f"{number / 2 ** (10 * power):.3g} {_UNITS[power]}"


def _by(numbers: tuple[int, ...]) -> str:
    return " × ".join(map(str, numbers))


def _range(values: np.ndarray) -> str:
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return low if low == high else f"{low} to {high}"


def _some(names: list[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _sizes(variable: xr.Variable) -> str:
    return f"({', '.join(f'{d}: {n}' for d, n in variable.sizes.items())})"
