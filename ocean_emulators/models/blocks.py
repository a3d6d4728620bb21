"""Building blocks of the U-Net: periodic in longitude, zero beyond the poles.

Follows the published Samudra (Dheeshjith et al. 2025, doi:10.1029/2024GL114318): dense dilated 3×3 convolutions in blocks that
are named after ConvNeXt, with a capped GELU. Parameter names are those of its released weights.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["batch", "instance", "none"]
Upsampling = Literal["bilinear", "periodic_bilinear"]


class GlobeConv(nn.Conv2d):
    """Convolution that keeps the size of the grid: it wraps around in longitude and sees zeros beyond the poles."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1) -> None:
        margin = dilation * (kernel_size - 1) // 2
        super().__init__(in_channels, out_channels, kernel_size, dilation=dilation, padding=(margin, 0))
        self.margin = margin

    def forward(self, x: Tensor) -> Tensor:
        """[batch, in, lat, lon] -> [batch, out, lat, lon]"""
        return super().forward(wrap(x, self.margin))


def wrap(x: Tensor, width: int) -> Tensor:
    """Repeat `width` columns of [..., lon] on either side, as they follow around the globe."""
    if width == 0:
        return x
    return torch.cat([x[..., -width:], x, x[..., :width]], dim=-1)


class CappedGELU(nn.Module):
    """min(GELU(x), cap), elementwise."""

    def __init__(self, cap: float) -> None:
        super().__init__()
        # Released weights hold the cap as a tensor; computing with the number is several times faster.
        self.register_buffer("cap", torch.tensor(float(cap)))
        self.limit = float(cap)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return F.gelu(x).clamp(max=self.limit)


class ConvNeXtBlock(nn.Module):
    """Two dilated 3×3 convolutions at `expansion` times the input's width, then 1×1, beside a skip (1×1 if widths differ)."""

    def __init__(
        self, in_channels: int, out_channels: int, dilation: int, expansion: int, norm: Norm, activation_cap: float
    ) -> None:
        super().__init__()
        wide = expansion * in_channels
        self.skip_module = (
            nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, kernel_size=1)
        )
        self.convblock = nn.Sequential(
            GlobeConv(in_channels, wide, 3, dilation),
            _norm(norm, wide),
            CappedGELU(activation_cap),
            GlobeConv(wide, wide, 3, dilation),
            _norm(norm, wide),
            CappedGELU(activation_cap),
            nn.Conv2d(wide, out_channels, kernel_size=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[batch, in, lat, lon] -> [batch, out, lat, lon]"""
        out: Tensor = self.skip_module(x) + self.convblock(x)
        return out


class Upsample(nn.Module):
    """Twice the resolution, bilinear; latitude is clamped at the poles, longitude too unless `periodic`."""

    def __init__(self, periodic: bool) -> None:
        super().__init__()
        self.periodic = periodic

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channel, lat, lon] -> [batch, channel, 2 lat, 2 lon]"""
        width = x.shape[-1]
        if self.periodic:
            x = wrap(x, 1)
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return x[..., 2 : 2 + 2 * width] if self.periodic else x


def _norm(norm: Norm, channels: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.Identity()
