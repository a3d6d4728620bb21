"""Winograd's convolutions are convolutions."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ocean_emulators.models.layers import winograd
from ocean_emulators.models.layers.blocks import GlobeConv, wrap


def plain(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """The same convolution, by the library's."""
    return F.conv2d(wrap(x, dilation), weight, bias, padding=(dilation, 0), dilation=dilation)


@given(
    st.integers(1, 2), st.integers(1, 5), st.integers(1, 5), st.integers(1, 17), st.integers(0, 16), st.integers(1, 8)
)
@settings(deadline=None)
def test_it_is_the_plain_convolution(batch: int, cin: int, cout: int, n_lat: int, more: int, d: int) -> None:
    torch.manual_seed(n_lat + more)
    x, weight, bias = torch.randn(batch, cin, n_lat, d + more), torch.randn(cout, cin, 3, 3), torch.randn(cout)
    assert torch.allclose(winograd.convolve(x, weight, bias, d), plain(x, weight, bias, d), atol=2e-5)


@pytest.mark.parametrize("values_at_once", [1, 3000])
def test_strips_make_the_whole(values_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "_VALUES_AT_ONCE", values_at_once)
    x, weight, bias = torch.randn(2, 3, 29, 16), torch.randn(4, 3, 3, 3), torch.randn(4)
    assert torch.allclose(winograd.convolve(x, weight, bias, 2), plain(x, weight, bias, 2), atol=2e-5)


def test_it_is_taken_in_inference_between_many_channels_alone() -> None:
    many, few = GlobeConv(128, 128, 3, 2), GlobeConv(8, 8, 3, 2)
    x = torch.randn(1, 128, 24, 48)
    expected = many(x)
    assert not winograd.applies(x, many.weight)
    with torch.no_grad():
        assert winograd.applies(x, many.weight)
        assert not winograd.applies(x[:, :8], few.weight)
        assert not winograd.applies(x[..., :4], many.weight)
        assert not winograd.applies(x.double(), many.weight.double())
        assert torch.allclose(many(x), expected, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            assert not winograd.applies(x, many.weight)
