"""3×3 convolutions with 2.25 times fewer multiplications, for inference on CPUs.

Tiles of 2 × 2 results are computed from 4 × 4 values in a transformed space, where the convolution is a product of each place
in the tile: F(2 × 2, 3 × 3) of Lavin and Gray (2016, doi:10.1109/CVPR.2016.435), whose transforms add and halve alone, so that
the results are as exact as those of a plain convolution. A dilated convolution is one on each of the grids of every d-th cell.
The transforms pass over memory some twenty times: worth it where there are many channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_LEAST_CHANNELS = 128
_LEAST_CELLS = 900
"""Of fewer, transforming the weights takes longer than it saves."""
_VALUES_AT_ONCE = 2**22
"""In a transformed strip of tiles, which so stays in the processor's cache."""


def applies(x: Tensor, weight: Tensor) -> bool:
    """Whether this is the faster way: without gradients, in float32 on a CPU, between many channels of many cells."""
    out_channels, in_channels, *kernel = weight.shape
    return (
        x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and x.dtype == torch.float32
        and kernel == [3, 3]
        and min(in_channels, out_channels) >= _LEAST_CHANNELS
        and x.shape[2] * x.shape[3] >= _LEAST_CELLS
    )


def convolve(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """[batch, in, lat + 2 d, lon + 2 d] -> [batch, out, lat, lon], as `conv2d` without padding."""
    n_lat, n_lon = x.shape[2] - 2 * dilation, x.shape[3] - 2 * dilation
    rows, columns = (-(-n // (2 * dilation)) for n in (n_lat, n_lon))
    missing = (2 * dilation * rows - n_lat, 2 * dilation * columns - n_lon)
    # Channels last: all that is added lies side by side.
    x = torch.nn.functional.pad(x.permute(0, 2, 3, 1), (0, 0, 0, missing[1], 0, missing[0])).contiguous()
    kernels = _kernels(weight)
    out = x.new_empty(len(x), 2 * dilation * rows, 2 * dilation * columns, len(weight))
    per_row = 16 * columns * dilation**2 * max(weight.shape[:2])
    at_once = max(1, _VALUES_AT_ONCE // per_row)
    for field, into in zip(x, out, strict=True):
        for row in range(0, rows, at_once):
            n = min(at_once, rows - row)
            lines = slice(2 * dilation * row, 2 * dilation * (row + n))
            into[lines] = _strip(field[lines.start : lines.stop + 2 * dilation], kernels, bias, dilation, n, columns)
    return out[:, :n_lat, :n_lon].permute(0, 3, 1, 2)


def _strip(x: Tensor, kernels: Tensor, bias: Tensor, dilation: int, rows: int, columns: int) -> Tensor:
    """[lat, lon, in] -> [lat, lon, out] of some rows of whole tiles."""
    products = torch.bmm(_tiles(x, dilation, rows, columns).view(16, -1, x.shape[-1]), kernels)
    lines = _gather(products.view(4, 4, rows, dilation, columns, dilation, len(bias)))
    out = x.new_empty(rows, 2, dilation, columns, 2, dilation, len(bias))
    for i, line in enumerate(lines):
        first, second = _gather(line)
        torch.add(first, bias, out=out[:, i, :, :, 0])
        torch.add(second, bias, out=out[:, i, :, :, 1])
    return out.view(2 * dilation * rows, 2 * dilation * columns, -1)


def _tiles(x: Tensor, dilation: int, rows: int, columns: int) -> Tensor:
    """Transformed tiles, [4, 4, row, phase, column, phase, in]; tiles begin at each phase of the dilation."""
    n_lon, n_channels, d = x.shape[1], x.shape[2], dilation
    line = n_lon * n_channels

    def of_rows(k: int) -> Tensor:
        return x.as_strided(
            (rows, d, n_lon, n_channels), (2 * d * line, line, n_channels, 1), x.storage_offset() + k * d * line
        )

    tiles = x.new_empty(4, 4, rows, d, columns, d, n_channels)
    for into, mixed in zip(tiles, _spread(*map(of_rows, range(4))), strict=True):
        shape, strides = (rows, d, columns, d, n_channels), (d * line, line, 2 * d * n_channels, n_channels, 1)
        a, b, c, e = (mixed.as_strided(shape, strides, k * d * n_channels) for k in range(4))
        _spread(a, b, c, e, into)
    return tiles


def _spread(a: Tensor, b: Tensor, c: Tensor, d: Tensor, into: Tensor | None = None) -> Sequence[Tensor]:
    """Four values of a tile, transformed."""
    out: Sequence[Tensor] = [a.new_empty(a.shape) for _ in range(4)] if into is None else into.unbind(0)
    torch.sub(a, c, out=out[0])
    torch.add(b, c, out=out[1])
    torch.sub(c, b, out=out[2])
    torch.sub(b, d, out=out[3])
    return out


def _gather(x: Tensor) -> tuple[Tensor, Tensor]:
    """Four transformed results along the first dimension to two results."""
    return (x[0] + x[1]).add_(x[2]), (x[1] - x[2]).sub_(x[3])


def _kernels(weight: Tensor) -> Tensor:
    """[out, in, 3, 3] -> [16, in, out]"""
    g = weight.new_tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    both = torch.einsum("ik,jl->ijkl", g, g).reshape(16, 9)
    return (both @ weight.reshape(-1, 9).T).view(16, *weight.shape[:2]).transpose(1, 2)
