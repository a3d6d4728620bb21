"""What the framework adds to the bare model, on an ocean of the sample's size: a training step, a rollout, unpacking."""

from types import SimpleNamespace

import numpy as np
import torch
from table import Result, ratio, run

from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.loading.train_data import Batch
from ocean_emulators.datasets.statistics.normalisation import Statistics
from ocean_emulators.losses.masked import LossConfig
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.samudra import SamudraConfig
from ocean_emulators.ocean.fields import channels
from ocean_emulators.stepper import Stepper

SHAPE = (48, 96)
CALLS = 8


def ocean() -> tuple[Packing, OceanContext]:
    """49 predicted and 3 forcing channels, 60 % wet."""
    prognostic = channels(["thetao", "so", "uo", "vo", "zos"], list(range(12)))
    forcing = channels(["tauuo", "tauvo", "hfds"], [])
    n = len(prognostic) + len(forcing)
    mask = np.broadcast_to(np.random.default_rng(0).random(SHAPE) < 0.6, (n, *SHAPE)).copy()
    ones = np.ones(n)
    statistics = Statistics(0 * ones, ones, ones, np.zeros((1, int(mask.sum())), "f4"), (), "")
    packing = Packing(prognostic, forcing, mask, statistics)
    lat, lon = torch.linspace(-75, 75, SHAPE[0]), torch.linspace(0, 356, SHAPE[1])
    return packing, OceanContext(
        len(prognostic), len(forcing), packing.prognostic_mask, lat, lon, torch.ones(len(prognostic))
    )


def measure(repeats: int) -> list[Result]:
    """All ratios."""
    packing, context = ocean()
    config = SamudraConfig(widths=(32, 48, 64), dilation=(1, 2, 4), expansion=1, norm="none")
    model = config.build(context)
    loss = LossConfig().build(context, [c.field.name for c in packing.prognostic], torch.ones(SHAPE))
    stepper = Stepper(model, config, {context.name: loss})
    rows = torch.randn(2, packing.mask.sum())
    dense = packing.unpack(rows)
    prognostic, forcing = dense[None, :, packing.prognostic_channels], dense[None, :, packing.forcing_channels]
    batch = Batch(prognostic, forcing)

    def step() -> None:
        stepper.train_batch(batch, 1).loss.backward()

    def bare_step() -> None:
        model(prognostic[:, :1], forcing).square().mean().backward()

    data = SimpleNamespace(initial=lambda starts: prognostic[:, :1], forcing=lambda starts, call: forcing)

    def rollout() -> None:
        for _ in stepper.inference(data, [0], CALLS):  # type: ignore[arg-type]
            pass

    @torch.no_grad()
    def bare_rollout() -> None:
        for _ in range(CALLS):
            model(prognostic[:, :1], forcing)

    out = torch.zeros_like(dense)
    return [
        Result("training step / bare forward and backward", ratio(step, bare_step, repeats), 1.25),
        Result("rollout / bare forward passes", ratio(rollout, bare_rollout, repeats), 1.25),
        Result(
            "unpacking rows / copying the dense fields",
            ratio(lambda: packing.unpack(rows, out=out), lambda: out.copy_(dense), 20 * repeats),
            3.0,
        ),
    ]


if __name__ == "__main__":
    run(measure)
