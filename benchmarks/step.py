"""What the framework adds to the bare model, on an ocean of the sample's size: a training step, a rollout, unpacking.

On one thread, as a process has by default: of two, one waits by spinning wherever the other lacks a core.
"""

import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from table import Result, ratio, run

from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.loading.train_data import Batch
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.losses.config import LossConfig
from ocean_emulators.losses.grid import LossGrid
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.samudra import SamudraConfig
from ocean_emulators.ocean.fields import channels
from ocean_emulators.stepper import Stepper
from ocean_emulators.testing.coded_ocean import wet_masks

SHAPE = (48, 96)
LEVELS = 12
MODEL_STEPS = 8


def ocean() -> tuple[Packing, OceanContext]:
    """49 predicted and 3 forcing channels, with continents, and basins that narrow with depth."""
    lat, lon = torch.linspace(-75, 75, SHAPE[0]), torch.linspace(0, 356, SHAPE[1])
    wet = wet_masks(lat.numpy(), lon.numpy(), LEVELS)
    prognostic = channels(["thetao", "so", "uo", "vo", "zos"], list(range(LEVELS)))
    forcing = channels(["tauuo", "tauvo", "hfds"], [])
    n = len(prognostic) + len(forcing)
    mask = np.stack([wet[channel.mask_level] for channel in (*prognostic, *forcing)])
    ones = np.ones(n)
    statistics = Statistics(0 * ones, ones, ones, np.zeros((1, int(mask.sum())), "f4"), (), "")
    packing = Packing(prognostic, forcing, mask, statistics)
    return packing, OceanContext(
        len(prognostic), len(forcing), packing.prognostic_mask, lat, lon, torch.ones(len(prognostic))
    )


def measure(repeats: int) -> list[Result]:
    """All ratios."""
    torch.set_num_threads(1)
    packing, context = ocean()
    config = SamudraConfig(widths=(32, 48, 64), dilation=(1, 2, 4), expansion=1, norm="none")
    model = config.build(context)
    fields = tuple(channel.field.name for channel in packing.prognostic)
    wet = context.mask.double()
    grid = LossGrid(context, fields, torch.ones(len(fields)), torch.ones(SHAPE), wet)
    stepper = Stepper(model, config, LossConfig().build({context.name: grid}))
    rows = torch.randn(2, packing.mask.sum())
    dense = packing.unpack(rows)
    prognostic, forcing = dense[None, :, packing.prognostic_channels], dense[None, :, packing.forcing_channels]
    batch = Batch(prognostic, forcing)

    def step() -> None:
        stepper.train_batch(batch, 1).loss.backward()

    def bare_step() -> None:
        model(prognostic[:, :1], forcing).square().mean().backward()

    data = SimpleNamespace(initial=lambda starts: prognostic[:, :1], forcing=lambda starts, model_step: forcing)

    def rollout() -> None:
        for _ in stepper.inference(data, [0], MODEL_STEPS):  # type: ignore[arg-type]
            pass

    @torch.no_grad()
    def bare_rollout() -> None:
        for _ in range(MODEL_STEPS):
            model(prognostic[:, :1], forcing)

    out = torch.zeros_like(dense)

    def unpack() -> None:
        packing.unpack(rows, out=out)

    over = partial(ratio, repeats=3 * repeats, clock=time.process_time)
    return [
        Result("training step / bare forward and backward", over(step, bare_step), 1.1),
        Result("rollout / bare forward passes", over(rollout, bare_rollout), 1.1),
        # Not over a copy: two fields of this size stay in the processor's cache, where a copy costs next to nothing.
        Result("unpacking a window / bare forward and backward", over(unpack, bare_step), 0.05),
    ]


if __name__ == "__main__":
    run(measure)
