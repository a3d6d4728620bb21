"""Small checkpoints in the layouts in which weights were released."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.samudra import Samudra, SamudraConfig

N_LAT, N_LON = 18, 34
"""Neither divides by 4: the poolings cut a row and a column off."""

_LAYERS = 8
"""Place of the last block in a small model's U-Net, with two poolings."""


def ocean(n_prognostic: int, n_forcing: int, n_lat: int = N_LAT, n_lon: int = N_LON) -> OceanContext:
    """An ocean with land strewn about."""
    wet = torch.rand(n_prognostic, n_lat, n_lon, generator=torch.Generator().manual_seed(0)) > 0.3
    lat, lon = torch.linspace(-80, 80, n_lat), torch.arange(n_lon) * 360.0 / n_lon
    return OceanContext(n_prognostic, n_forcing, wet, lat, lon, torch.full((n_prognostic,), 0.1))


def small(grid: OceanContext, seed: int = 0, **settings: Any) -> Samudra:
    """A published model but for its widths, with random weights, and with running statistics as if it were trained."""
    published = {"input_states": 2, "output_states": 2, "forcing_times": [-1, 0], "prediction": "state"}
    config = SamudraConfig(**published | {"widths": (2, 3), "dilation": (1, 2)} | settings)
    torch.manual_seed(seed)
    model = Samudra(config, grid)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            torch.nn.init.uniform_(buffer, 0.5, 1.5)
    return model


def release(path: Path, model: dict[str, Tensor], **parts: Any) -> Path:
    """A file with all that is published beside the weights."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict()
    beside = {"optimizer": optimizer, "epoch": 70, "best_val_loss": 0.5, "wandb_id": None, "num_batches_seen": 7}
    torch.save({"model": model, "ema": {"decay": 0.999, "num_updates": 7}, **beside, **parts}, path)
    return path


def as_parallel(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As saved by distributed training."""
    return {f"module.{name}": tensor for name, tensor in state.items()}


def as_legacy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As in the first release."""
    head = f"layers.{_LAYERS + 1}."
    return {name.replace("decoder.", head).removeprefix("unet."): tensor for name, tensor in state.items()}


def as_linear(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """With linear maps for 1×1 convolutions."""
    renamed = {}
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        if stem.endswith(("skip_module", "convblock.6")):
            name, tensor = f"{stem}.linear.{kind}", tensor.flatten(1) if kind == "weight" else tensor
        renamed[name] = tensor
    return renamed


def as_averaged(model: Samudra, layout: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> dict[str, Any]:
    """The moving average that a model with these weights would be."""
    parameters = layout({name: p.detach() for name, p in model.named_parameters()})
    without_dots = {n.removeprefix("module.").replace(".", ""): p for n, p in parameters.items()}
    return {"decay": 0.999, "num_updates": 7, "faster_decay_at_start": True, "ema_params": without_dots}
