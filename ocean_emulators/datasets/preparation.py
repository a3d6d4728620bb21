"""From a source to the packed training store: validate, derive, coarsen, keep the wet cells."""

import hashlib
import shutil
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import xarray as xr
import zarr

from ocean_emulators.config.base import digest
from ocean_emulators.datasets.anomalies import with_anomalies
from ocean_emulators.datasets.completeness import require_whole
from ocean_emulators.datasets.config import DataConfig, Period
from ocean_emulators.datasets.location import locate, require_unchanged
from ocean_emulators.datasets.sources import open_source
from ocean_emulators.datasets.store import create_store, seal_store
from ocean_emulators.datasets.validation import validate_metadata, validate_state, validate_steps
from ocean_emulators.errors import UserError
from ocean_emulators.ocean import calendar
from ocean_emulators.ocean.fields import Channel
from ocean_emulators.ocean.grid import Grid


def prepare(config: DataConfig, path: Path) -> None:
    """Write the packed store of a source at `path`, replacing what is there.

    The work is cut into files of the store and runs on dask's scheduler, threads or a cluster that the user has set.

    Raises
    ------
    UserError
        If the source lacks a field, a level or a period, or has no value in a cell that its mask calls wet.
    """
    require_unchanged(config.source)
    source = open_source(config.source)
    dataset = select_from(source, config)
    fields = [c.field.anomaly_of or c.field.name for c in config.prognostic_channels + config.forcing_channels]
    require_whole(locate(config.source), fields, _span_of_periods(source["time"].values, config))
    chosen = config.prognostic_channels + config.forcing_channels
    mask = xr.concat([dataset[f"mask_{c.mask_level}"] for c in chosen], "channel").compute()
    building = path.with_name(path.name + ".partial")
    shutil.rmtree(building, ignore_errors=True)
    grid = Grid.from_dataset(dataset)
    target = create_store(building, config.prognostic_channels, config.forcing_channels, mask, dataset["time"], grid)
    rows = _rows(dataset, chosen, mask.values, times_per_block=target.shards[0])  # type: ignore[index]
    starts = np.cumsum([0, *rows.chunks[0][:-1]])
    write = dask.delayed(_write_block)
    offsets = np.cumsum([0, *mask.values.sum((1, 2))])
    tasks = [
        write(block, building, int(start), offsets, [c.name for c in chosen], dataset["time"].values)
        for block, start in zip(rows.to_delayed().ravel(), starts, strict=True)
    ]
    digests = dask.compute(*tasks)
    seal_store(building, digest(digests, _describe(dataset, chosen, mask.values)))
    shutil.rmtree(path, ignore_errors=True)
    building.replace(path)


def select(config: DataConfig) -> xr.Dataset:
    """The part of the source that an experiment uses, lazily: its fields, levels and times, derived and coarsened.

    Raises
    ------
    UserError
        As `prepare`, save for values that are missing after the first time.
    """
    return select_from(open_source(config.source), config)


def select_from(dataset: xr.Dataset, config: DataConfig) -> xr.Dataset:
    """As `select`, from a source that is open."""
    validate_metadata(dataset, config)
    span = _span_of_periods(dataset["time"].values, config)
    validate_steps(dataset["time"].values[span], config)
    validate_state(dataset.isel(time=span.start), config)
    dataset = with_anomalies(dataset, config)
    names = [c.name for c in config.prognostic_channels + config.forcing_channels]
    masks = [f"mask_{k}" for k in sorted({0, *config.levels})]
    # Fewer variables first: cutting thousands of chunks out of each takes dask seconds.
    dataset = dataset[[*names, *masks, *(n for n in ("areacello", "dz") if n in dataset)]].isel(time=span)
    return _coarsen(dataset, config, names)


def _span_of_periods(time: np.ndarray, config: DataConfig) -> slice:
    """The times from the first of any period to the last of any."""
    for name in type(config.periods).model_fields:
        period: Period = getattr(config.periods, name)
        if not calendar.within(time, period.start, period.end).any():
            raise UserError(
                f"data.periods.{name}: {period.start} to {period.end} holds none of the times of {config.source}, "
                f"{time[0]} to {time[-1]}"
            )
    inside = np.flatnonzero(calendar.within(time, config.periods.span.start, config.periods.span.end))
    return slice(int(inside[0]), int(inside[-1]) + 1)


def _coarsen(dataset: xr.Dataset, config: DataConfig, names: list[str]) -> xr.Dataset:
    """Means over blocks of cells, weighted by wet area; a block is wet where at least half of its area is."""
    grid = Grid.from_dataset(dataset)
    dataset = dataset.assign(areacello=(("lat", "lon"), grid.area))
    if config.coarsen == 1:
        return dataset
    factor = {"lat": config.coarsen, "lon": config.coarsen}
    if any(dataset.sizes[dimension] % config.coarsen for dimension in factor):
        raise UserError(f"data.coarsen: {config.coarsen} does not divide the grid of {config.source}, {grid.shape}")

    def total(array: xr.DataArray) -> xr.DataArray:
        return array.coarsen(factor).sum()

    area = total(dataset["areacello"])
    variables: dict[str, xr.DataArray] = {}
    for level in {0, *config.levels}:
        weight = dataset["areacello"] * dataset[f"mask_{level}"]
        wet = total(weight) >= 0.5 * area
        variables[f"mask_{level}"] = wet
        for name in names:
            if _level_of(name) == level:
                mean = total(dataset[name].fillna(0.0) * weight) / total(weight).where(wet)
                variables[name] = mean.astype("float32")
    return xr.Dataset(variables).assign(areacello=area, dz=dataset["dz"]).assign_coords(lev=dataset["lev"])


def _level_of(name: str) -> int:
    suffix = name.rpartition("_")[2]
    return int(suffix) if suffix.isdigit() else 0


def _rows(dataset: xr.Dataset, chosen: tuple[Channel, ...], mask: np.ndarray, times_per_block: int) -> da.Array:
    """All wet cells as one lazy array [time, cell], in blocks that are files of the store."""
    parts = []
    for channel, wet in zip(chosen, mask, strict=True):
        field = dataset[channel.name].transpose("time", "lat", "lon").data.astype("float32")
        parts.append(field.reshape(field.shape[0], -1)[:, np.flatnonzero(wet)])
    rows: da.Array = da.concatenate(parts, axis=1).rechunk((times_per_block, -1))
    return rows


def _write_block(
    block: np.ndarray, path: Path, start: int, offsets: np.ndarray, names: list[str], time: np.ndarray
) -> str:
    """Write the rows of one file and return their hash."""
    missing = ~np.isfinite(block)
    if missing.any():
        step, cell = np.argwhere(missing)[0]
        name = names[int(np.searchsorted(offsets, cell, side="right")) - 1]
        raise UserError(
            f"data.source: {name} has no value at {time[start + step]} in {int(missing[step].sum())} cell(s) that the "
            "mask of its level calls wet; mend the store or its mask"
        )
    zarr.open_group(path, mode="a")["rows"][start : start + len(block)] = block  # type: ignore[index]
    return hashlib.sha256(block.tobytes()).hexdigest()


def _describe(dataset: xr.Dataset, chosen: tuple[Channel, ...], mask: np.ndarray) -> list[object]:
    """What tells one store from another beside its rows."""
    coordinates = [dataset[name].values.tolist() for name in ("lat", "lon", "lev", "dz")]
    times = [str(t) for t in dataset["time"].values]
    return [[c.name for c in chosen], hashlib.sha256(mask.tobytes()).hexdigest(), coordinates, times]
