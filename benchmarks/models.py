"""Samudra 2 at 1° against the same network as one would write it down in torch, and against the machine's matrix products.

Weights are the same, and so are the results, to rounding.
"""

import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from table import Result, ratio, run, seconds
from torch import Tensor, nn

from ocean_emulators.config.base import parse
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.cost import cost_of_model_step
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.layers import winograd
from ocean_emulators.models.samudra import Samudra, SamudraConfig

PRESET = Path(__file__).parents[1] / "configs" / "model" / "samudra_om4_v2.yaml"
SHAPE, QUICK_SHAPE = (180, 360), (68, 136)
N_PROGNOSTIC, N_FORCING = 77, 4


class PlainBlock(nn.Module):
    """Padding, convolution, normalisation and activation, one after the other."""

    def __init__(self, cin: int, cout: int, dilation: int, expansion: int) -> None:
        super().__init__()
        wide, self.dilation = expansion * cin, dilation
        self.skip = nn.Identity() if cin == cout else nn.Conv2d(cin, cout, 1)
        self.first = nn.Conv2d(cin, wide, 3, dilation=dilation)
        self.first_norm = nn.BatchNorm2d(wide)
        self.second = nn.Conv2d(wide, wide, 3, dilation=dilation)
        self.second_norm = nn.BatchNorm2d(wide)
        self.last = nn.Conv2d(wide, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.clamp(F.gelu(self.first_norm(self.first(pad(x, self.dilation)))), max=10.0)
        y = torch.clamp(F.gelu(self.second_norm(self.second(pad(y, self.dilation)))), max=10.0)
        return self.skip(x) + self.last(y)  # type: ignore[no-any-return]


def pad(x: Tensor, d: int) -> Tensor:
    """Around the globe, and zeros beyond the poles."""
    return F.pad(F.pad(x, (d, d, 0, 0), mode="circular"), (0, 0, d, d))


class Plain(nn.Module):
    """The network of `configs/model/samudra_om4_v2.yaml`."""

    def __init__(self, cin: int, cout: int, config: SamudraConfig) -> None:
        super().__init__()
        widths, dilations = config.widths, config.dilation
        block = partial(PlainBlock, expansion=config.expansion)
        self.down = nn.ModuleList(map(block, [cin, *widths], widths, dilations))
        self.middle = block(widths[-1], widths[-1], dilations[-1])
        up = [block(widths[i], widths[i - 1], dilations[i]) for i in range(len(widths) - 1, 0, -1)]
        self.up = nn.ModuleList([*up, block(widths[0], widths[0], dilations[1])])
        self.head = nn.Conv2d(widths[0], cout, 3)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = F.avg_pool2d(x, 2)
        x = self.middle(x)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            width = x.shape[-1]
            x = F.interpolate(F.pad(x, (1, 1, 0, 0), mode="circular"), scale_factor=2, mode="bilinear")
            x = x[..., 2 : 2 + 2 * width]
            south, west = skip.shape[-2] - x.shape[-2], skip.shape[-1] - x.shape[-1]
            x = F.pad(x, (west // 2, west - west // 2, south // 2, south - south // 2)) + skip
            x = block(x)
        return self.head(pad(x, 1))  # type: ignore[no-any-return]


def pair(shape: tuple[int, int]) -> tuple[Samudra, Plain, Tensor, SamudraConfig, OceanContext]:
    """The project's model and the plain one with the same weights, and an input."""
    config = parse(SamudraConfig, load_yaml(PRESET), str(PRESET)).replace(checkpointing="none")
    ocean = OceanContext(
        N_PROGNOSTIC,
        N_FORCING,
        torch.ones(N_PROGNOSTIC, *shape, dtype=torch.bool),
        torch.linspace(-89, 89, shape[0]),
        torch.arange(shape[1]) * 360.0 / shape[1],
        torch.ones(N_PROGNOSTIC),
    )
    torch.manual_seed(0)
    model = config.build(ocean)
    plain = Plain(model.in_channels, model.out_channels, config)
    ours = [tensor for name, tensor in model.state_dict().items() if not name.endswith("cap")]
    plain.load_state_dict(dict(zip(plain.state_dict(), ours, strict=True)))  # both name their parts in the same order
    return model, plain, torch.randn(1, model.in_channels, *shape), config, ocean


def measure(repeats: int) -> list[Result]:
    """All ratios; below 1 the project's model is faster, or takes less."""
    quick = repeats < 10
    shape = QUICK_SHAPE if quick else SHAPE
    return [
        *measure_forward(shape, 3 if quick else 5),
        *measure_winograd(1 if quick else 5),
        *measure_training(shape, 2),
        *measure_memory(shape),
    ]


@torch.no_grad()
def measure_forward(shape: tuple[int, int], n: int) -> list[Result]:
    """In evaluation mode, as in a rollout."""
    model, plain, x, config, ocean = pair(shape)
    model.eval(), plain.eval()
    half = config.replace(precision="bfloat16").build(ocean).eval()
    half.load_state_dict(model.state_dict())
    y, expected, rounded = model.network(x), plain(x), half.network(x)
    assert torch.allclose(y, expected, atol=1e-3), (y - expected).abs().max()
    flops = cost_of_model_step(config, [ocean]).forward_flops
    speed, half_speed = (
        flops / statistics.median(seconds(lambda: m.network(x)) for _ in range(n))  # noqa: B023
        for m in (model, half)
    )
    products, half_products = product_flops(torch.float32), product_flops(torch.bfloat16)
    error = float((rounded - y).square().mean().sqrt() / y.std())
    return [
        Result("forward, float32 / plain torch", ratio(lambda: model.network(x), lambda: plain(x), n), 1 / 1.15),
        Result("forward, float32: FLOP/s of matrix products / of the network", products / speed, 1.25),
        Result("forward, bfloat16: FLOP/s of matrix products / of the network", half_products / half_speed, 1.5),
        Result("bfloat16 / float32: forward", speed / half_speed, None),
        Result("bfloat16 / float32: matrix products", products / half_products, None),
        Result("forward, bfloat16: error / standard deviation", error, 0.05),
    ]


@torch.no_grad()
def measure_winograd(n: int) -> list[Result]:
    """What Winograd's convolutions save of a forward pass at 1°, on one thread, as a process has by default.

    Always at 1°: on a smaller grid fewer of the convolutions are done that way. They stay while they are worth 1.3 ×.
    """
    model, _, x, _, _ = pair(SHAPE)
    model.eval()

    def without() -> None:
        with patch.object(winograd, "applies", lambda *_: False):
            model.network(x)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    value = ratio(lambda: model.network(x), without, n, time.process_time)
    torch.set_num_threads(threads)
    return [Result("forward at 1°, float32, one thread: with Winograd's convolutions / without", value, 1 / 1.3)]


def measure_training(shape: tuple[int, int], n: int) -> list[Result]:
    """Forward and backward."""
    model, plain, x, config, ocean = pair(shape)
    again = config.replace(checkpointing="convolutions").build(ocean)
    return [
        Result(
            "forward and backward / plain torch",
            ratio(partial(train, model, x), partial(train, plain, x), n),
            1.0,
        ),
        Result(
            "forward and backward, convolutions kept / all kept",
            ratio(partial(train, again, x), partial(train, model, x), n),
            1.15,
        ),
    ]


def forward(model: Samudra | Plain, x: Tensor) -> Tensor:
    """What a network makes of its stacked input."""
    out: Tensor = model.network(x) if isinstance(model, Samudra) else model(x)
    return out


def train(model: Samudra | Plain, x: Tensor) -> None:
    """A forward and a backward pass."""
    forward(model, x).square().mean().backward()
    model.zero_grad()


def measure_memory(shape: tuple[int, int]) -> list[Result]:
    """Peaks of a call, each in a process of its own."""
    inferred, plain_inferred = (peak_alone(shape, who, False) for who in ("none", "plain"))
    kept, again, plain = (peak_alone(shape, who, True) for who in ("none", "convolutions", "plain"))
    return [
        Result("forward: peak memory / plain torch", inferred / plain_inferred, 1.0),
        Result("forward and backward: peak memory / plain torch", kept / plain, 1.0),
        Result("forward and backward, convolutions kept: peak memory / plain torch", again / plain, 0.75),
    ]


def peak_bytes(shape: tuple[int, int], who: str, training: bool) -> int:
    """The most memory that a call takes, beside what the process holds already (Linux); `who` is the plain network, or what
    the project's keeps for back-propagation."""
    model, plain, x, config, ocean = pair(shape)
    network = plain if who == "plain" else config.replace(checkpointing=who).build(ocean)
    del model, plain
    network.train(training)

    def call() -> None:
        if training:
            train(network, x)
        else:
            with torch.no_grad():
                forward(network, x)

    call()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    call()
    return _status("VmHWM") - before


def peak_alone(shape: tuple[int, int], who: str, training: bool) -> int:
    """The same in a process whose allocator gives memory back at once, so that what counts is what tensors hold."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # for the process that starts; this one's allocator has read it
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(peak_bytes, shape, who, training).result()


def product_flops(dtype: torch.dtype) -> float:
    """FLOP/s of a product of large matrices."""
    a, b = torch.randn(2048, 2048, dtype=dtype), torch.randn(2048, 2048, dtype=dtype)
    return 2 * 2048**3 / min(seconds(lambda: a @ b) for _ in range(10))


def _status(key: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    run(measure)
