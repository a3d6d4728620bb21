"""Winograd's convolutions are convolutions."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ocean_emulators.models import winograd
from ocean_emulators.models.blocks import GlobeConv


@given(
    st.integers(1, 2), st.integers(1, 5), st.integers(1, 5), st.integers(1, 17), st.integers(1, 17), st.integers(1, 8)
)
@settings(deadline=None)
def test_it_is_the_plain_convolution(batch: int, cin: int, cout: int, n_lat: int, n_lon: int, d: int) -> None:
    torch.manual_seed(n_lat + n_lon)
    x, weight, bias = (
        torch.randn(batch, cin, n_lat + 2 * d, n_lon + 2 * d),
        torch.randn(cout, cin, 3, 3),
        torch.randn(cout),
    )
    expected = F.conv2d(x, weight, bias, dilation=d)
    assert torch.allclose(winograd.convolve(x, weight, bias, d), expected, atol=2e-5)


@pytest.mark.parametrize("values_at_once", [1, 3000])
def test_strips_make_the_whole(values_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "_VALUES_AT_ONCE", values_at_once)
    x, weight, bias = torch.randn(2, 3, 33, 20), torch.randn(4, 3, 3, 3), torch.randn(4)
    assert torch.allclose(winograd.convolve(x, weight, bias, 2), F.conv2d(x, weight, bias, dilation=2), atol=2e-5)


def test_it_is_taken_in_inference_between_many_channels_alone() -> None:
    many, few = GlobeConv(128, 128, 3, 2), GlobeConv(8, 8, 3, 2)
    x = torch.randn(1, 128, 24, 48)
    plain = many(x)
    assert not winograd.applies(x, many.weight)
    with torch.no_grad():
        assert winograd.applies(x, many.weight)
        assert not winograd.applies(x[:, :8], few.weight)
        assert not winograd.applies(x[..., :4], many.weight)
        assert not winograd.applies(x.double(), many.weight.double())
        assert torch.allclose(many(x), plain, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            assert not winograd.applies(x, many.weight)
