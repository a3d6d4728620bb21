"""A seconds-sized ocean in OM4's layout, and an experiment on it."""

import datetime
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import xarray as xr

N_LAT, N_LON, LEVELS = 16, 32, 2
YEARS = 3
PREFIX = {"thetao": 0, "so": 1, "uo": 2, "vo": 3, "zos": 4, "tauuo": 5, "tauvo": 6, "hfds": 7}


def experiment(source: Path | str = "data/tiny.zarr", **train: Any) -> dict[str, Any]:
    """An experiment on the tiny ocean as plain data: 2000 and 2001 to train, then half a year each to validate and test."""
    return {
        "name": "tiny",
        "data": {
            "source": str(source),
            "prognostic": ["thetao", "so", "uo", "vo", "zos"],
            "forcing": ["tauuo", "tauvo", "hfds"],
            "levels": [0, 1],
            "periods": {
                "train": {"start": "2000-01-01", "end": "2001-12-31"},
                "validation": {"start": "2002-01-01", "end": "2002-06-30"},
                "test": {"start": "2002-07-01", "end": "2002-12-31"},
            },
        },
        "model": {"type": "samudra", "widths": [6, 8], "dilation": [1, 2], "expansion": 1, "norm": "none"},
        "train": {
            "epochs": 2,
            "batch_size": 16,
            "rollout_steps": [1, 2],
            "learning_rate": 3e-3,
            "ema_decay": 0.9,
            **train,
        },
        "evaluation": {"lead_days": 30, "start_every": 3, "report_days": [10, 20, 30]},
        "comparison": {"bootstrap_draws": 50},
    }


def dataset(years: int = YEARS, seed: int = 0) -> xr.Dataset:
    """Smooth, seasonal, drifting fields that differ by variable, level and place; polar land and a continent."""
    rng = np.random.default_rng(seed)
    n = 73 * years
    time = [cftime.DatetimeNoLeap(2000, 1, 1) + datetime.timedelta(days=5 * i + 2.5) for i in range(n)]
    lat = (np.arange(N_LAT) + 0.5) * 180 / N_LAT - 90
    lon = (np.arange(N_LON) + 0.5) * 360 / N_LON
    t = np.arange(n)[:, None, None] / 73
    y, x = np.deg2rad(lat)[None, :, None], np.deg2rad(lon)[None, None, :]
    wet = wet_masks(lat, lon)
    variables: dict[str, Any] = {}
    for name, number in PREFIX.items():
        for level in range(LEVELS) if number < 4 else (None,):
            k = level or 0
            season = np.cos(2 * np.pi * t + number) * np.cos(y)
            wave = np.cos(x * (1 + number % 3) - 2 * np.pi * t * (2 + k)) * np.cos(y) ** 2
            weather = np.cumsum(rng.normal(0, 0.05, (n, 1, 1)), axis=0) * np.cos(y + number)
            values = 10 * number + season / (1 + k) + wave + 0.3 * weather
            label = name if level is None else f"{name}_{level}"
            variables[label] = (("time", "y", "x"), np.where(wet[k], values, np.nan).astype("f4"))
    for k in range(LEVELS):
        variables[f"mask_{k}"] = (("y", "x"), wet[k])
    return xr.Dataset(
        {**variables, "dz": ("lev", [20.0, 100.0])},
        coords={"time": ("time", time), "y": ("y", lat), "x": ("x", lon), "lev": ("lev", [10.0, 70.0])},
    )


def wet_masks(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """[level, lat, lon]: the lower level has less ocean."""
    polar = np.abs(lat)[:, None] < 75
    surface = polar & ~((lon > 60) & (lon < 120))[None, :]
    return np.stack([surface, surface & ((lon < 300) | (lon > 330))[None, :]])


def write(path: Path, **kwargs: Any) -> Path:
    """The tiny ocean as a Zarr store."""
    dataset(**kwargs).to_zarr(path, zarr_format=2)
    return path
