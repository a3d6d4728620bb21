"""What GPUs compute in place of convolutions is the convolution, and so are its gradients."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ocean_emulators.models.layers.blocks import wrap
from ocean_emulators.models.layers.gpu_convolution import as_product, convolve, in_eights

Channels = st.integers(1, 17)


@pytest.mark.parametrize("ours", [convolve, as_product, in_eights])
@given(st.integers(1, 2), Channels, Channels, st.integers(1, 17), st.integers(0, 16), st.integers(1, 8), st.booleans())
@settings(deadline=None)
def test_it_is_the_plain_convolution(
    ours: Callable[..., Tensor], batch: int, cin: int, cout: int, n_lat: int, more: int, d: int, five: bool
) -> None:
    torch.manual_seed(n_lat + more)
    kernel = 5 if five else 3
    margin = d * (kernel - 1) // 2
    x = torch.randn(batch, cin, n_lat, margin + more, dtype=torch.float64)
    weight, bias = torch.randn(cout, cin, kernel, kernel).double(), torch.randn(cout).double()
    inputs = [x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]
    padded = wrap(x, margin)
    plain = F.conv2d(padded, weight, bias, padding=(margin, 0), dilation=d)
    found = ours(padded, weight, bias, d)
    assert torch.allclose(found, plain)
    out = torch.randn_like(plain)
    gradients = zip(torch.autograd.grad(found, inputs, out), torch.autograd.grad(plain, inputs, out), strict=True)
    assert all(torch.allclose(a, b) for a, b in gradients)


def test_one_without_a_bias_is_too() -> None:
    x, weight = torch.randn(1, 3, 5, 9), torch.randn(4, 3, 3, 3)
    plain = F.conv2d(x, weight, padding=(1, 0))
    assert torch.allclose(convolve(x, weight, None, 1), plain, atol=1e-5)
    assert torch.allclose(as_product(x, weight, None, 1), plain, atol=1e-5)
