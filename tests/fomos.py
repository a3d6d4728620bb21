"""FOMOs of few weights, and grids for them."""

import torch
from torch import Tensor

from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.fomo.model import FomoConfig

TINY = {
    "type": "fomo",
    "patch_extent": [22.5, 22.5],
    "encoder": {
        "type": "perceiver",
        "width": 8,
        "latents": 4,
        "latent_width": 8,
        "heads": 2,
        "head_width": 8,
        "max_frequency": 2,
    },
    "processor": {"widths": [8, 12], "dilation": [1, 1], "expansion": 1, "norm": "none"},
    "decoder": {
        "type": "perceiver",
        "latents": 4,
        "latent_width": 8,
        "query_width": 8,
        "heads": 2,
        "head_width": 8,
        "window": 4,
    },
}
"""As in an experiment, for the tiny ocean."""

CONSERVATIVE = {
    "patch_extent": (22.5, 22.5),
    "encoder": {"type": "conservative", "width": 6},
    "processor": {"widths": (8, 12), "dilation": (1, 1), "expansion": 1, "norm": "none"},
    "decoder": {"type": "residual", "width": 6},
}
"""With the conservative encoder and the residual decoder."""


def ocean(
    n_lat: int,
    n_lon: int,
    n_prognostic: int = 3,
    n_forcing: int = 1,
    wet: Tensor | None = None,
    reach: float = 90.0,
    name: str = "x1",
) -> OceanContext:
    """A grid of equal steps from -reach to reach, whose longitudes begin half a cell east of Greenwich."""
    mask = torch.ones(n_prognostic, n_lat, n_lon, dtype=torch.bool) if wet is None else wet
    lat = (torch.arange(n_lat, dtype=torch.float64) + 0.5) * 2 * reach / n_lat - reach
    lon = (torch.arange(n_lon, dtype=torch.float64) + 0.5) * 360 / n_lon
    return OceanContext(n_prognostic, n_forcing, mask, lat, lon, torch.full((n_prognostic,), 0.1), name)


def small(**changes: object) -> FomoConfig:
    """Patches of 22.5° × 22.5°: a latent grid of 8 × 16."""
    sizes = {"latents": 5, "latent_width": 6, "heads": 2, "head_width": 4}
    tree: dict[str, object] = {
        "patch_extent": (22.5, 22.5),
        "encoder": {"type": "perceiver", "width": 8, "depth": 2, "max_frequency": 4, **sizes},
        "processor": {"widths": (8, 12), "dilation": (1, 1), "expansion": 1, "norm": "none"},
        "decoder": {"type": "perceiver", "query_width": 8, "window": 4, **sizes},
    }
    return FomoConfig.model_validate({**tree, **changes})
