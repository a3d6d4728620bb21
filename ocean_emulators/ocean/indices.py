"""Numbers that sum an ocean up: regional indices and global means. Datasets are CF, as our predictions are."""

import numpy as np
import xarray as xr

from ocean_emulators.ocean.grid import Grid
from ocean_emulators.ocean.regions import NINO34, Region


def area_mean(field: xr.DataArray, area: xr.DataArray, region: Region | None = None) -> xr.DataArray:
    """Area-weighted mean over cells that have values, in a region or everywhere: dimensions lat and lon go."""
    if region is not None:
        lat, lon = field["lat"].values, field["lon"].values
        inside = region.mask(Grid(lat, lon, area.values, np.empty(0), np.empty(0)))
        field = field.where(xr.DataArray(inside, dims=("lat", "lon")))
    return field.weighted(area).mean(("lat", "lon"))


def wet_area(dataset: xr.Dataset) -> xr.DataArray:
    """Area of the ocean in each cell, m2: [lev, lat, lon] where cells are ocean in part, else their area [lat, lon]."""
    area = dataset["areacello"]
    return area * dataset["ocean_fraction"] if "ocean_fraction" in dataset else area


def nino34(dataset: xr.Dataset) -> xr.DataArray:
    """Mean temperature of the uppermost level in the Nino3.4 box, degC, [time]."""
    return area_mean(dataset["thetao"].isel(lev=0), wet_area(dataset).isel(lev=0, missing_dims="ignore"), NINO34)


def global_mean(dataset: xr.Dataset, name: str) -> xr.DataArray:
    """Global mean of a variable on each level, [time, lev]."""
    return area_mean(dataset[name], wet_area(dataset))
