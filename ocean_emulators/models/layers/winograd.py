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
        and not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and x.dtype == torch.float32
        and kernel == [3, 3]
        and min(in_channels, out_channels) >= _LEAST_CHANNELS
        and x.shape[2] * x.shape[3] >= _LEAST_CELLS
    )


def convolve(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """[batch, in, lat, lon] -> [batch, out, lat, lon], around the globe, and with zeros beyond the poles."""
    d, (n_lat, n_lon) = dilation, x.shape[2:]
    rows, columns = (-(-n // (2 * d)) for n in (n_lat, n_lon))
    kernels = _kernels(weight)
    # Channels last: all that is added lies side by side.
    out = x.new_empty(len(x), 2 * d * rows, 2 * d * columns, len(weight))
    at_once = max(1, _VALUES_AT_ONCE // (16 * columns * d**2 * max(weight.shape[:2])))
    for field, into in zip(x.permute(0, 2, 3, 1), out, strict=True):
        for row in range(0, rows, at_once):
            n = min(at_once, rows - row)
            lines = slice(2 * d * row, 2 * d * (row + n))
            padded = _padded(field, lines.start - d, lines.stop + d, d, 2 * d * columns)
            products = torch.bmm(_tiles(padded, d, n, columns).view(16, -1, x.shape[1]), kernels)
            _results(products.view(4, 4, n, d, columns, d, -1), bias, into[lines].view(n, 2, d, columns, 2, d, -1))
    return out[:, :n_lat, :n_lon].permute(0, 3, 1, 2)


def _padded(x: Tensor, start: int, stop: int, margin: int, width: int) -> Tensor:
    """Lines `start` to `stop` of [lat, lon, channel], and `margin` columns on either side of the first `width`."""
    n_lat, n_lon, n_channels = x.shape
    assert margin <= n_lon, (margin, x.shape)
    out = x.new_empty(stop - start, width + 2 * margin, n_channels)
    south, north = max(start, 0), min(stop, n_lat)
    out[: south - start] = 0
    out[north - start :] = 0
    inside, x = out[south - start : north - start], x[south:north]
    inside[:, :margin] = x[:, n_lon - margin :]
    inside[:, margin : margin + n_lon] = x
    inside[:, margin + n_lon : 2 * margin + n_lon] = x[:, :margin]
    inside[:, 2 * margin + n_lon :] = 0
    return out


def _results(products: Tensor, bias: Tensor, out: Tensor) -> None:
    """Transforms [4, 4, row, phase, column, phase, out] back into [row, 2, phase, column, 2, phase, out]."""
    for i, line in enumerate(_gather(products)):
        for j, result in enumerate(_gather(line)):
            torch.add(result, bias, out=out[:, i, :, :, j])


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
