"""Building blocks of the U-Net: periodic in longitude, zero beyond the poles.

Follows the published Samudra (Dheeshjith et al. 2025, doi:10.1029/2024GL114318): dense dilated 3×3 convolutions in blocks that
are named after ConvNeXt, with a capped GELU. Parameter names are those of its released weights.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ocean_emulators.distributed import ALONE, Ranks
from ocean_emulators.models.layers import gpu_convolution, winograd
from ocean_emulators.models.layers.activation_checkpointing import recomputing

Norm = Literal["batch", "instance", "none"]
Block = Literal["convnext", "conv"]
Upsampling = Literal["bilinear", "periodic_bilinear"]


class GlobeConv(nn.Conv2d):
    """Convolution that keeps the size of the grid: it wraps around in longitude and sees zeros beyond the poles."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1) -> None:
        margin = dilation * (kernel_size - 1) // 2
        super().__init__(in_channels, out_channels, kernel_size, dilation=dilation, padding=(margin, 0))
        self.margin = margin

    def forward(self, x: Tensor) -> Tensor:
        """[batch, in, lat, lon] -> [batch, out, lat, lon]"""
        return self.convolve(x, self.weight, self.bias)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same with other weights of the same shape."""
        if bias is not None and winograd.applies(x, weight):
            return winograd.convolve(x, weight, bias, self.dilation[0])
        x = wrap(x, self.margin)
        if x.is_cuda:
            return gpu_convolution.convolve(x, weight, bias, self.dilation[0])
        return F.conv2d(x, weight, bias, 1, (self.margin, 0), self.dilation)


def wrap(x: Tensor, width: int) -> Tensor:
    """Repeat `width` columns of [..., lon] on either side, as they follow around the globe."""
    assert width <= x.shape[-1], (width, x.shape)
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

    def apply_(self, x: Tensor) -> Tensor:
        """The same in the memory of `x`, for inference."""
        return torch.ops.aten.gelu_(x).clamp_(max=self.limit)  # type: ignore[no-any-return]


class BatchNorm(nn.BatchNorm2d):
    """Counts a batch once, also where activation checkpointing recomputes it; its statistics are those of all ranks' windows.

    Not torch's SyncBatchNorm, which no CPU has.
    """

    ranks = ALONE

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channel, lat, lon] -> the same"""
        alone = self.ranks.world_size == 1
        if not self.training or (alone and torch.compiler.is_compiling()):  # what is compiled counts once by itself
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        mean, variance = self.running_mean.clone(), self.running_var.clone()
        if alone:
            out = F.batch_norm(x, mean, variance, self.weight, self.bias, True, self.momentum or 0.0, self.eps)
        else:
            out = self._over_ranks(x, mean, variance)
        if not recomputing():
            self.running_mean.copy_(mean)
            self.running_var.copy_(variance)
            self.num_batches_tracked += 1
        return out

    def _over_ranks(self, x: Tensor, running_mean: Tensor, running_variance: Tensor) -> Tensor:
        out, mean, variance, n = _NormOverRanks.apply(x, self.weight, self.bias, self.ranks, self.eps)  # type: ignore[no-untyped-call]
        momentum = self.momentum or 0.0
        running_mean.lerp_(mean, momentum)
        running_variance.lerp_(variance * (n / (n - 1)), momentum)
        normalised: Tensor = out
        return normalised


class _NormOverRanks(torch.autograd.Function):
    """Normalises [batch, channel, lat, lon] by the statistics of all ranks' windows; gives these, and the number of cells, too.

    By the kernels that normalise with given statistics, which pass over memory as few times as those of one rank; what the
    statistics add to the gradient is an affine function of the input.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, ranks: Ranks, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        n, means, variances = ranks.stack(_moments(x.float())).unbind(1)
        total = n.sum(0)
        mean = (n * means).sum(0) / total
        variance = (n * (variances + (means - mean).square())).sum(0) / total
        mean, variance, total = mean.float(), variance.float(), total.float()
        ctx.save_for_backward(x, weight, mean, variance, total)
        ctx.ranks, ctx.eps = ranks, eps
        ctx.mark_non_differentiable(mean, variance, total)
        out = F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps) if len(x) else x.clone()
        return out, mean, variance, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, total = ctx.saved_tensors
        of_x, of_weight, of_bias = torch.zeros_like(x), torch.zeros_like(weight), torch.zeros_like(weight)
        if len(x):  # the kernel takes no empty batch
            of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                gradients[0], x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
            )
        by_scale, by_shift = ctx.ranks.sum(torch.stack([of_weight, of_bias]).float()) / total
        inverse = torch.rsqrt(variance + ctx.eps)
        slope = weight * inverse.square() * by_scale
        level = weight * inverse * by_shift - slope * mean
        of_x = of_x.float().addcmul_(x.float(), slope[:, None, None], value=-1).sub_(level[:, None, None])
        return of_x.to(x.dtype), of_weight, of_bias, None, None


def _moments(x: Tensor) -> Tensor:
    """Cells, mean and variance of the channels of [batch, channel, lat, lon]; [3, channel], float64; zeros without windows."""
    n = x.numel() // x.shape[1]
    mean = x.sum((0, 2, 3)) / n
    variance = (x - mean[:, None, None]).square_().sum((0, 2, 3)) / n  # much faster than torch's own
    return torch.stack([torch.full_like(mean, n), mean, variance]).double().nan_to_num()


def synchronise_norms(model: nn.Module, ranks: Ranks) -> None:
    """Let batch normalisation take its statistics over the windows of all ranks."""
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.ranks = ranks


class ConvNeXtBlock(nn.Module):
    """Two dilated convolutions at `expansion` times the input's width, then 1×1, beside a skip (1×1 if widths differ)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dilation: int,
        kernel_size: int = 3,
        expansion: int = 4,
        norm: Norm = "batch",
        activation_cap: float = 10.0,
    ) -> None:
        super().__init__()
        wide = expansion * in_channels
        self.skip_module = (
            nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, kernel_size=1)
        )
        self.convblock = nn.Sequential(
            *_convolutions([in_channels, wide, wide], dilation, kernel_size, norm, activation_cap),
            nn.Conv2d(wide, out_channels, kernel_size=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[batch, in, lat, lon] -> [batch, out, lat, lon]"""
        if self.training or torch.is_grad_enabled():
            learnt: Tensor = self.skip_module(x) + self.convblock(x)
            return learnt
        out, skip = self._infer(x), self.skip_module(x)
        return out.add_(skip) if out.dtype == skip.dtype else out + skip

    def _infer(self, x: Tensor) -> Tensor:
        """The convolutions' branch in less time and memory: batch norms go into the weights, activations are in place."""
        first, first_norm, act, second, second_norm, _, last = self.convblock
        for conv, norm in ((first, first_norm), (second, second_norm)):
            assert isinstance(conv, GlobeConv) and isinstance(act, CappedGELU)
            x = conv.convolve(x, *folded(conv, norm)) if isinstance(norm, BatchNorm) else norm(conv(x))
            x = act.apply_(x)
        out: Tensor = last(x)
        return out


class ConvBlock(nn.Sequential):
    """Dilated convolution, normalisation, activation; `expansion` times the width, between two of them, if not 1."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dilation: int,
        kernel_size: int = 3,
        expansion: int = 1,
        norm: Norm = "batch",
        activation_cap: float = 10.0,
    ) -> None:
        widths = [in_channels, *([expansion * in_channels] if expansion > 1 else []), out_channels]
        super().__init__(*_convolutions(widths, dilation, kernel_size, norm, activation_cap))


BLOCKS: dict[Block, type[ConvNeXtBlock] | type[ConvBlock]] = {"convnext": ConvNeXtBlock, "conv": ConvBlock}


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that gives what the normalisation, with its running statistics, makes of `conv`."""
    assert conv.bias is not None and norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return conv.weight * scale[:, None, None, None], (conv.bias - norm.running_mean) * scale + norm.bias


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


def _convolutions(
    widths: Sequence[int], dilation: int, kernel_size: int, norm: Norm, activation_cap: float
) -> list[nn.Module]:
    """From each width to the next: a convolution, its normalisation, its activation."""
    layers: list[nn.Module] = []
    for cin, cout in pairwise(widths):
        layers += [GlobeConv(cin, cout, kernel_size, dilation), _norm(norm, cout), CappedGELU(activation_cap)]
    return layers


def _norm(norm: Norm, channels: int) -> nn.Module:
    if norm == "batch":
        return BatchNorm(channels)
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.Identity()
