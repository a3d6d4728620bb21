"""Opens an ocean model's output, in any of the layouts in which OM4 has been published, as one canonical dataset.

Canonical: dimensions `time, lat, lon` (and `lev` for coordinates), one variable per channel (`thetao_0` … `zos`), one wet
mask per level (`mask_0` …, bool, true in the ocean), `areacello (lat, lon)` and `ocean_fraction (lev, lat, lon)` where
given, `dz (lev)`, times in the model's own calendar; no other coordinates.

Read, in Zarr version 2 or 3, with land NaN or 0:

- current: one variable per level and `mask_k`, two-dimensional `lat` and `lon` beside `x` and `y`, corners of cells;
- older: the same with coordinates `time`, `x`, `y` alone; depths are OM4's;
- legacy: `thetao_lev_2_5` by depth, a stacked `wetmask`, more coordinates along `time`;
- compact: one variable with a `lev` dimension, and either kind of mask.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cftime
import xarray as xr
import zarr
from zarr.storage import LocalStore

from ocean_emulators.datasets.source.location import Location, access_errors
from ocean_emulators.datasets.source.pinning import locate
from ocean_emulators.errors import UserError
from ocean_emulators.ocean.levels import OM4_DEPTH, known_thickness, level_of, split_depth, split_level

_DIMENSIONS = {"y": "lat", "x": "lon", "latitude": "lat", "longitude": "lon"}
_KEPT = ("areacello", "dz", "ocean_fraction")


def open_source(source: str, keep_stacked: bool = False) -> xr.Dataset:
    """Open what `data.source` names as the canonical dataset, lazily: its arrays read what is asked of them.

    With `keep_stacked`, a variable that holds all levels stays beside those of its levels: its chunks may hold several.

    Raises
    ------
    UserError
        If there is nothing, it can't be reached, is no Zarr store, or lacks what every layout has.
    """
    return open_location(locate(source), keep_stacked)


def open_location(location: Location, keep_stacked: bool = False) -> xr.Dataset:
    """As `open_source`, for a store that may be described but need not be pinned."""
    dataset = read_as_it_is(location)
    with access_errors(location):
        dataset = to_canonical(dataset, location.name, keep_stacked)
        for variable in dataset.variables.values():
            if "time" not in variable.dims:
                variable.load()
    return dataset


def read_as_it_is(location: Location) -> xr.Dataset:
    """The store's own variables and names, lazily, with times in the model's calendar.

    Raises
    ------
    UserError
        If there is nothing, it can't be reached, or is no Zarr store.
    """
    store = location.open()
    with access_errors(location):
        group = zarr.open_group(store, mode="r")  # finds out what there is; xarray's own tries would warn
        consolidated = group.metadata.consolidated_metadata is not None
        try:
            with _fast_if_local(group):
                dataset: xr.Dataset = xr.open_zarr(
                    store,
                    chunks=None,
                    consolidated=consolidated,
                    zarr_format=group.metadata.zarr_format,
                    decode_times=xr.coders.CFDatetimeCoder(use_cftime=True),
                )
        except ValueError as error:
            if "conflicting sizes" in str(error):
                raise UserError(f"{location.name}: {error}; all variables must be on one grid") from error
            raise
    return dataset


@contextmanager
def _fast_if_local(group: zarr.Group) -> Iterator[None]:
    """Arrays that are opened here are read by compiled threads: Zarr's own way takes four times as long, most of it in
    Python. What those threads can't decode, Zarr does; but they know folders alone, and this machine's order of bytes."""
    if not isinstance(group.store, LocalStore) or not all(a.dtype.isnative for _, a in group.arrays()):
        yield
        return
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Array is unsupported by ZarrsCodecPipeline")
        yield


@dataclass(frozen=True)
class Layout:
    """What tells the generations of published stores apart."""

    levels: str
    """how a field's levels are stored: `by level` (thetao_0), `by depth` (thetao_lev_2_5), `stacked` (a lev dimension)"""
    masks: str
    """`by level` (mask_0), `stacked` (wetmask), or `none`"""
    has_depths: bool
    """whether depths or thicknesses are given"""

    @property
    def generation(self) -> str:
        """The published generation that has this layout."""
        if self.levels == "stacked":
            return "compact"
        if self.levels == "by depth":
            return "legacy"
        return "current" if self.has_depths else "older"


def layout_of(dataset: xr.Dataset) -> Layout:
    """The layout of a store that was read as it is."""
    names = list(map(str, dataset.data_vars))
    stacked = any({"time", "lev"} <= set(v.dims) for v in dataset.data_vars.values())
    by_depth = any(map(split_depth, names))
    masks = "by level" if "mask_0" in dataset else "stacked" if "wetmask" in dataset else "none"
    levels = "stacked" if stacked else "by depth" if by_depth else "by level"
    return Layout(levels, masks, "lev" in dataset.variables)


def to_canonical(dataset: xr.Dataset, name: str, keep_stacked: bool = False) -> xr.Dataset:
    """The canonical form of a store that was read as it is; `name` is what messages call it.

    Raises
    ------
    UserError
        If it lacks what every layout has.
    """
    dataset = _with_levels(_on_lat_lon(dataset, name), name)
    dataset = _split_levels(_rename_depths(dataset, name), keep_stacked)
    dataset = _with_masks(dataset, name)
    dataset = dataset.reset_coords([n for n in _KEPT if n in dataset.coords])
    return dataset.drop_vars([n for n in dataset.coords if n not in dataset.dims])


def _on_lat_lon(dataset: xr.Dataset, name: str) -> xr.Dataset:
    for old, new in _DIMENSIONS.items():
        if old not in dataset.dims:
            continue
        if old not in dataset.variables and new in dataset.variables and dataset[new].dims == (old,):
            dataset = dataset.swap_dims({old: new})
            continue
        if new in dataset.variables and old in dataset.variables:
            _require_rectilinear(dataset, old, new, name)
        dataset = dataset.drop_vars(new, errors="ignore").rename({old: new})
    for dimension in ("time", "lat", "lon"):
        if dimension not in dataset.variables:
            raise UserError(f"{name} has no coordinate {dimension!r}; it has {', '.join(map(str, dataset.coords))}")
    times = dataset["time"].values
    if not len(times) or not isinstance(times[0], cftime.datetime):
        raise UserError(
            f"{name}: the times can't be read as dates; `time` needs entries, units (such as 'days since 1958-01-01') "
            "and a calendar"
        )
    return dataset


def _require_rectilinear(dataset: xr.Dataset, along: str, name_2d: str, name: str) -> None:
    """One-dimensional coordinates that say something else than the two-dimensional ones are cell numbers, not degrees."""
    line, field = dataset[along], dataset[name_2d]
    if field.ndim == 2 and len(line) > 1:
        spacing = float(abs(line.diff(along)).median())
        off = float(abs(field - line).max())
        if not off <= 0.1 * spacing:
            raise UserError(
                f"{name}: `{along}` and the two-dimensional `{name_2d}` differ by up to {off:g}: the grid is not one of "
                "latitudes and longitudes; regrid the source first"
            )


def _with_levels(dataset: xr.Dataset, name: str) -> xr.Dataset:
    """Depth and thickness of the levels, from OM4's where a store has none."""
    if "lev" not in dataset.variables:
        if _count_levels(dataset) != len(OM4_DEPTH):
            raise UserError(
                f"{name} has no coordinate 'lev', and other levels than OM4's {len(OM4_DEPTH)}; "
                "give the depths of their centres (m) as `lev`"
            )
        dataset = dataset.assign_coords(lev=OM4_DEPTH)
    if "dz" not in dataset:
        thickness = known_thickness(dataset["lev"].values)
        if thickness is None:
            raise UserError(f"{name} has no layer thicknesses `dz` (m, along lev), and its levels are not OM4's")
        dataset = dataset.assign(dz=("lev", thickness))
    return dataset


def _count_levels(dataset: xr.Dataset) -> int:
    if "lev" in dataset.sizes:
        return int(dataset.sizes["lev"])
    names = list(map(str, dataset.data_vars))
    depths = {found[1] for found in map(split_depth, names) if found}
    numbers = {found[1] for found in map(split_level, names) if found}
    return len(depths) or max(numbers, default=-1) + 1


def _rename_depths(dataset: xr.Dataset, name: str) -> xr.Dataset:
    """`thetao_lev_2_5` becomes `thetao_0`: the depth must be one of `lev`."""
    names = {}
    for variable in map(str, dataset.data_vars):
        found = split_depth(variable)
        if found is None:
            continue
        field, depth = found
        level = level_of(depth, dataset["lev"].values)
        if level is None:
            raise UserError(
                f"{name}: {variable} is at {depth:g} m, which is none of the levels {dataset['lev'].values}"
            )
        names[variable] = f"{field}_{level}"
    return dataset.rename(names)


def _split_levels(dataset: xr.Dataset, keep_stacked: bool) -> xr.Dataset:
    """Variables along `lev` become one variable per level."""
    stacked = [name for name, variable in dataset.data_vars.items() if {"time", "lev"} <= set(variable.dims)]
    levels = {
        f"{name}_{k}": dataset[name].isel(lev=k, drop=True)
        for name in stacked
        if name != "wetmask"
        for k in range(dataset.sizes["lev"])
    }
    unstacked = [name for name in stacked if name != "wetmask"]
    return (dataset if keep_stacked else dataset.drop_vars(unstacked)).assign(levels)


def _with_masks(dataset: xr.Dataset, name: str) -> xr.Dataset:
    """Wet masks as given, else from a stacked `wetmask`, else where the first state of the level has values."""
    masks = {}
    for k in range(dataset.sizes["lev"]):
        label = f"mask_{k}"
        if label in dataset:
            mask = _at_first_time(dataset[label])
        elif "wetmask" in dataset:
            mask = _at_first_time(dataset["wetmask"].isel(lev=k, drop=True))
        elif f"thetao_{k}" in dataset:
            mask = _at_first_time(dataset[f"thetao_{k}"]).notnull()
        else:
            raise UserError(f"{name} has neither {label}, nor wetmask, nor thetao_{k} to tell ocean from land")
        # Masks that are stored as numbers may have land missing, and a missing value is true.
        masks[label] = mask if mask.dtype == bool else mask.fillna(0) != 0
    if "mask_0" not in dataset and "wetmask" not in dataset and bool(masks["mask_0"].all()):
        raise UserError(f"{name} has no masks, and thetao_0 has a value everywhere: nothing tells ocean from land")
    return dataset.drop_vars("wetmask", errors="ignore").assign(masks)


def _at_first_time(array: xr.DataArray) -> xr.DataArray:
    return array.isel(time=0, drop=True) if "time" in array.dims else array
