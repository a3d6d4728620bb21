"""What the published system's losses give for two made-up fields, and its rule of dynamic weights written in numpy."""

import numpy as np
import torch
from torch import Tensor

from ocean_emulators.losses.grid import LossGrid
from ocean_emulators.models.base import OceanContext

WINDOWS, SLOTS, CHANNELS, LATS, LONS = SHAPE = (2, 2, 3, 4, 8)

MSE = (0.500070, 0.964916, 1.050275, 0.546635, 0.929713, 0.985018)
"""slot by slot; printed by the published code (m2lines/Samudra at 018a6a74, in float64), as are those below"""
MAE = (0.536376, 0.723904, 0.815430, 0.565409, 0.710221, 0.778138)
MAE_WITH_GRADIENT = (0.580706, 0.792367, 0.884939, 0.610155, 0.776277, 0.848784)
"""of mae, with a weight of 0.1"""
SCALES = ((1.007216, 1.002239, 0.999347), (0.990536, 0.983269, 0.979046))
"""of mse, with a limit of 1.2: after these losses, and then after twice these"""


def fields() -> tuple[Tensor, Tensor]:
    """Prediction and truth, [window, slot, channel, lat, lon]."""
    k = torch.arange(int(np.prod(SHAPE)), dtype=torch.float64).reshape(SHAPE)
    return torch.sin(0.3 * k), torch.cos(0.17 * k)


def grid() -> LossGrid:
    """Of these fields."""
    mask = torch.ones(CHANNELS, LATS, LONS, dtype=torch.bool)
    mask[:, 0, :2] = False
    mask[1:, 2, 5:] = False
    lat, lon = torch.tensor([-67.5, -22.5, 22.5, 67.5]), torch.arange(8) * 45.0
    area = torch.cos(torch.deg2rad(lat))[:, None].expand(-1, LONS)
    ocean = OceanContext(CHANNELS, 0, mask, lat, lon, torch.ones(CHANNELS))
    return LossGrid(ocean, ("so", "thetao", "uo"), torch.ones(CHANNELS), area, area * mask)


def scale_after(losses: list[np.ndarray], limit: float | None = None, memory: int = 25) -> np.ndarray:
    """The dynamic scale, [channel], after losses of one batch after the other, [rank, window, model step, slot, channel]."""
    scale = np.ones(losses[0].shape[-1])
    for batch in losses:
        raw = batch.astype("f8").mean(1).sum(1)
        raw[raw == 0] = 1e-8
        weight = (1 / raw).mean(1).mean(0)
        if limit is not None:
            weight = np.clip(weight, weight.min(), weight.min() * limit)
        scale = ((memory - 1) * scale + weight) / memory
    return scale
