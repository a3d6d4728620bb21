"""Reads means or standard deviations as they are published beside OM4: one number for each field and level.

Under the names of the data: `thetao_3`, or `thetao_lev_40_0` by depth (first release), or `thetao` along `lev` (compact).
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
import zarr

from ocean_emulators.errors import UserError, brief
from ocean_emulators.ocean.fields import Channel
from ocean_emulators.ocean.levels import level_of, split_depth


def read_published(
    path: str, setting: str, channels: Sequence[Channel], depths: np.ndarray, computed: np.ndarray
) -> np.ndarray:
    """One number for each channel, physical units, float64.

    Parameters
    ----------
    setting: the key of `data.statistics` that names `path`
    depths: [lev], m, of the prepared store
    computed: [channel], taken for anomalies that are not published, because they are computed here, too

    Raises
    ------
    UserError
        If there is no Zarr store at `path`, or it lacks a channel.
    """
    where = f"data.statistics.{setting}: {path}"
    try:
        published = xr.open_zarr(path, chunks=None, consolidated=None)
    except (zarr.errors.BaseZarrError, FileNotFoundError, ValueError, OSError) as error:
        raise UserError(f"{where} can't be opened as a Zarr store: {error}") from error
    values = np.empty(len(channels))
    for index, channel in enumerate(channels):
        found = _find(published, channel, depths)
        if found is None and channel.field.anomaly_of is None:
            known = ", ".join(sorted(map(str, published.data_vars))[:8])
            raise UserError(
                f"{where} has nothing for {channel.name} (it has {known}, …); leave the field or level out, or set "
                "published_means and published_stds to null to compute them"
            )
        values[index] = computed[index] if found is None else _number(found, channel, where)
    return values


def _number(found: xr.DataArray, channel: Channel, where: str) -> float:
    if found.size != 1:
        raise UserError(
            f"{where} holds {found.size} numbers for {channel.name}, expected one; name a store of statistics"
        )
    try:
        return float(found)
    except (ValueError, OSError, RuntimeError) as error:  # codecs
        raise UserError(f"{where}: {channel.name} can't be read ({brief(error)}); bring it back") from error


def _find(published: xr.Dataset, channel: Channel, depths: np.ndarray) -> xr.DataArray | None:
    name, level = channel.field.name, channel.level
    if channel.name in published:
        return published[channel.name].squeeze()
    if level is None:
        return None
    if name in published and "lev" in published[name].dims and level < published.sizes["lev"]:
        return published[name].isel(lev=level).squeeze()
    for variable in map(str, published.data_vars):
        field, depth = split_depth(variable) or ("", 0.0)
        if field == name and level_of(depth, depths) == level:
            return published[variable].squeeze()
    return None
