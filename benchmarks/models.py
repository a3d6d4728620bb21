"""Samudra 2 at 1° against the same network as one would write it down in torch, and against the machine's matrix products.

Weights are the same, and so are the results, to rounding.
"""

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from table import Result, ratio, run, seconds
from torch import Tensor, nn

from ocean_emulators.config import load_yaml, parse
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.cost import cost_of_call
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
    model, plain, x, config, ocean = pair(QUICK_SHAPE if quick else SHAPE)
    return [*measure_forward(model, plain, x, config, ocean, 3 if quick else 5), *measure_training(model, plain, x)]


@torch.no_grad()
def measure_forward(
    model: Samudra, plain: Plain, x: Tensor, config: SamudraConfig, ocean: OceanContext, n: int
) -> list[Result]:
    """In evaluation mode, as in a rollout."""
    model.eval(), plain.eval()
    half = config.replace(precision="bfloat16").build(ocean).eval()
    half.load_state_dict(model.state_dict())
    y, expected, rounded = model.network(x), plain(x), half.network(x)
    assert torch.allclose(y, expected, atol=1e-3), (y - expected).abs().max()
    time = statistics.median(seconds(lambda: model.network(x)) for _ in range(n))
    speed = cost_of_call(config, [ocean]).forward_flops / time
    return [
        Result("forward, float32 / plain torch", ratio(lambda: model.network(x), lambda: plain(x), n), 1 / 1.15),
        Result(
            "forward: peak memory / plain torch",
            peak_bytes(lambda: model.network(x)) / peak_bytes(lambda: plain(x)),
            1.0,
        ),
        Result("forward: FLOP/s of matrix products / of the forward pass", product_flops() / speed, 1.5),
        Result("forward, bfloat16 / float32", ratio(lambda: half.network(x), lambda: model.network(x), n), 1.0),
        Result(
            "forward, bfloat16: error / standard deviation", float((rounded - y).square().mean().sqrt() / y.std()), 0.05
        ),
    ]


def measure_training(model: Samudra, plain: Plain, x: Tensor) -> list[Result]:
    """Forward and backward."""
    model.train(), plain.train()

    def ours() -> None:
        model.network(x).square().mean().backward()
        model.zero_grad()

    def theirs() -> None:
        plain(x).square().mean().backward()
        plain.zero_grad()

    return [
        Result("forward and backward / plain torch", ratio(ours, theirs, 2), 1.0),
        Result("forward and backward: peak memory / plain torch", peak_bytes(ours) / peak_bytes(theirs), 1.0),
    ]


def product_flops() -> float:
    """FLOP/s of a product of large float32 matrices."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return 2 * 2048**3 / min(seconds(lambda: a @ b) for _ in range(10))


def peak_bytes(function: Callable[[], object]) -> int:
    """The most memory that a call takes, beside what the process holds already (Linux)."""
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    function()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    run(measure)
