"""Samudras of few weights, and grids for them."""

import torch
from torch import Tensor

from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.samudra import SamudraConfig


def ocean(n_prognostic: int, n_forcing: int, n_lat: int, n_lon: int, wet: Tensor | None = None) -> OceanContext:
    mask = torch.ones(n_prognostic, n_lat, n_lon, dtype=torch.bool) if wet is None else wet
    lat, lon = torch.linspace(-80, 80, n_lat), torch.arange(n_lon) * 360.0 / n_lon
    return OceanContext(n_prognostic, n_forcing, mask, lat, lon, torch.full((n_prognostic,), 0.1))


def small(**changes: object) -> SamudraConfig:
    return SamudraConfig(**{"widths": (4, 6), "dilation": (1, 2), "expansion": 1, "norm": "none", **changes})
