"""Opens an ocean model's output, in any of the layouts in which OM4 has been published, as one canonical dataset.

Canonical: dimensions `time, lat, lon` (and `lev` for coordinates), one variable per channel (`thetao_0` … `zos`), one wet
mask per level (`mask_0` …, bool, true in the ocean), `areacello` where known, `dz`, times in the model's own calendar.

Read: one variable per level with `mask_k` (current); `thetao_lev_2_5` by depth with a stacked `wetmask` (first release);
one variable with a `lev` dimension (compact).
"""

import re
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from zarr.storage import ZipStore

from ocean_emulators.errors import UserError

_BY_DEPTH = re.compile(r"(?P<name>.+)_lev_(?P<depth>\d+(?:_\d+)?)")
_DIMENSIONS = {"y": "lat", "x": "lon", "latitude": "lat", "longitude": "lon"}


def open_source(path: str, keep_stacked: bool = False) -> xr.Dataset:
    """Open a source lazily: arrays that read what is asked of them, at the speed of Zarr, and know no dask.

    With `keep_stacked`, a variable that holds all levels stays beside those of its levels: its chunks may hold several.

    Raises
    ------
    UserError
        If there is nothing at `path`, it is no Zarr store, or it lacks what every layout has.
    """
    dataset = _to_canonical_dims(_open_zarr(path), path)
    dataset = _split_levels(_rename_depths(dataset, path), keep_stacked)
    return _with_masks(dataset, path)


def _open_zarr(path: str) -> xr.Dataset:
    remote = "://" in path
    if not remote and not Path(path).exists():
        raise UserError(f"data.source: no such file or folder: {path}")
    store = ZipStore(path, mode="r") if path.endswith(".zip") else path
    times = xr.coders.CFDatetimeCoder(use_cftime=True)
    try:
        dataset: xr.Dataset = xr.open_zarr(store, chunks=None, decode_times=times)
    except (zarr.errors.BaseZarrError, FileNotFoundError, ValueError, OSError) as error:
        raise UserError(f"data.source: {path} can't be opened as a Zarr store: {error}") from error
    return dataset


def _to_canonical_dims(dataset: xr.Dataset, path: str) -> xr.Dataset:
    dataset = dataset.drop_vars([n for n in ("lat", "lon") if n in dataset.coords and dataset[n].ndim == 2])
    dataset = dataset.rename({old: new for old, new in _DIMENSIONS.items() if old in dataset.dims})
    for dimension in ("time", "lat", "lon", "lev"):
        if dimension not in dataset.variables:
            raise UserError(
                f"data.source: {path} has no coordinate {dimension!r}; it has {', '.join(map(str, dataset.coords))}"
            )
    if "dz" not in dataset:
        raise UserError(f"data.source: {path} has no layer thicknesses `dz` (m, along lev)")
    return dataset


def _rename_depths(dataset: xr.Dataset, path: str) -> xr.Dataset:
    """`thetao_lev_2_5` becomes `thetao_0`: the depth must be one of `lev`, exactly."""
    names = {}
    for name in map(str, dataset.data_vars):
        match = _BY_DEPTH.fullmatch(name)
        if not match:
            continue
        depth = float(match["depth"].replace("_", "."))
        level = np.flatnonzero(dataset["lev"].values == depth)
        if not len(level):
            raise UserError(
                f"data.source: {path}: {name} is at {depth:g} m, which is none of the levels {dataset['lev'].values}"
            )
        names[name] = f"{match['name']}_{level[0]}"
    return dataset.rename(names)


def _split_levels(dataset: xr.Dataset, keep_stacked: bool) -> xr.Dataset:
    """Variables along `lev` become one variable per level."""
    stacked = [name for name, variable in dataset.data_vars.items() if {"time", "lev"} <= set(variable.dims)]
    levels = {
        f"{name}_{k}": dataset[name].isel(lev=k, drop=True) for name in stacked for k in range(dataset.sizes["lev"])
    }
    return (dataset if keep_stacked else dataset.drop_vars(stacked)).assign(levels)


def _with_masks(dataset: xr.Dataset, path: str) -> xr.Dataset:
    """Wet masks as given, else from a stacked `wetmask`, else where the first state of the level has values."""
    masks = {}
    for k in range(dataset.sizes["lev"]):
        name = f"mask_{k}"
        if name in dataset:
            mask = dataset[name]
        elif "wetmask" in dataset:
            mask = dataset["wetmask"].isel(lev=k, drop=True)
        elif f"thetao_{k}" in dataset:
            mask = dataset[f"thetao_{k}"].isel(time=0, drop=True).notnull()
        else:
            raise UserError(
                f"data.source: {path} has neither {name}, nor wetmask, nor thetao_{k} to tell ocean from land"
            )
        masks[name] = (mask.isel(time=0, drop=True) if "time" in mask.dims else mask).astype(bool)
    return dataset.drop_vars("wetmask", errors="ignore").assign(masks)
