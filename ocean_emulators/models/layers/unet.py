"""A U-Net of any blocks, whose skip connections are added."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ocean_emulators.models.layers.activation_checkpointing import Checkpointing, run
from ocean_emulators.models.layers.blocks import Norm, Upsample


class TooSmall(NamedTuple):
    """Where a grid does not survive: after how many poolings, the cells (lat, lon) that are needed, and those there are."""

    shape: tuple[int, int]
    poolings: int
    needed: tuple[int, int]
    found: tuple[int, int]

    def explain(self, cells: str, grid: str) -> str:
        """What is wrong and the way out, in a message that names the setting; `cells` are what the `grid` consists of."""
        needed, found, whole = ("{} × {}".format(*size) for size in (self.needed, self.found, self.shape))
        return (
            f"needs at least {needed} {cells} after {self.poolings} pooling(s), but the {grid} of {whole} has {found} "
            "there; use fewer resolutions (shorter widths and dilation)"
        )


def require_as_many(widths: Sequence[int], dilation: Sequence[int]) -> None:
    """Raise a ValueError unless there is a dilation for each width."""
    if len(widths) != len(dilation):
        raise ValueError(f"widths has {len(widths)} resolutions and dilation {len(dilation)}: give as many of each")


def first_too_small(shape: tuple[int, int], dilations: Sequence[int], kernel_size: int, norm: Norm) -> TooSmall | None:
    """Where poolings, circular padding, or normalisation by a single window leave too little of a grid; None if nowhere."""
    last = len(dilations)
    for level, dilation in enumerate((*dilations, dilations[-1])):
        found = shape[0] >> level, shape[1] >> level
        # What is pooled needs two rows and columns; what is normalised, more than one cell.
        least = 1 if level == last else 2
        margin = dilation * (kernel_size - 1) // 2
        n_lon = max(margin, least, 2 if norm != "none" and found == (1, 1) else 1)
        if found[0] < least or found[1] < n_lon:
            return TooSmall(shape, level, (least, n_lon), found)
    return None


class UNet(nn.Module):
    """[batch, in, lat, lon] -> [batch, widths[0], lat, lon].

    One block and a pooling per width on the way down, one block in the middle, an upsampling and a block per width on the
    way up. What leaves a block on the way down is added to what the upsampling of that resolution gives.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        dilations: Sequence[int],
        block: Callable[..., nn.Module],
        periodic_upsampling: bool,
        checkpointing: Checkpointing = "none",
    ) -> None:
        """`block` makes one for (channels in, channels out, dilation)."""
        super().__init__()
        self.checkpointing = checkpointing
        layers: list[nn.Module] = []
        for cin, cout, dilation in zip([in_channels, *widths], widths, dilations, strict=False):
            layers += [block(cin, cout, dilation), nn.AvgPool2d(2)]
        layers += [block(widths[-1], widths[-1], dilations[-1])]
        up = [(widths[i], widths[i - 1], dilations[i]) for i in range(len(widths) - 1, 0, -1)]
        # The last block keeps its width. That its dilation is the one before it's, not the first level's, is how the
        # released weights were trained.
        up.append((widths[0], widths[0], dilations[min(1, len(dilations) - 1)]))
        for cin, cout, dilation in up:
            layers += [Upsample(periodic_upsampling), block(cin, cout, dilation)]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Down, then up."""
        if x.is_cuda:  # whose convolutions are fastest with the channels of a cell side by side
            x = x.contiguous(memory_format=torch.channels_last)
        skips: list[Tensor] = []
        for layer in self.layers:
            if isinstance(layer, nn.AvgPool2d):
                skips.append(x)
            x = layer(x) if isinstance(layer, nn.AvgPool2d | Upsample) else run(layer, x, self.checkpointing)
            if isinstance(layer, Upsample):
                skip = skips.pop()
                x = _fit(x, skip.shape[-2:]) + skip
        return x


def _fit(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Give back, as zeros, the row or column that pooling cut off an odd size."""
    missing_lat, missing_lon = shape[0] - x.shape[-2], shape[1] - x.shape[-1]
    if not (missing_lat or missing_lon):
        return x
    south, west = missing_lat // 2, missing_lon // 2
    return F.pad(x, (west, missing_lon - west, south, missing_lat - south))
