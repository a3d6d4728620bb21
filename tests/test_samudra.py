"""Samudra is the published model, and respects the geometry of the globe."""

import math

import pytest
import torch
from torch import Tensor

from ocean_emulators.errors import UserError
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.blocks import CappedGELU, Upsample
from ocean_emulators.models.samudra import Samudra, SamudraConfig

PUBLISHED = {"input_states": 2, "output_states": 2, "forcing_times": (-1, 0), "prediction": "state"}
V1 = SamudraConfig(**PUBLISHED, upsampling="bilinear")
V2 = SamudraConfig(**PUBLISHED, width=(280, 380, 480, 520), expansion=2)


def ocean(n_prognostic: int, n_forcing: int, n_lat: int, n_lon: int, wet: Tensor | None = None) -> OceanContext:
    mask = torch.ones(n_prognostic, n_lat, n_lon, dtype=torch.bool) if wet is None else wet
    lat, lon = torch.linspace(-80, 80, n_lat), torch.arange(n_lon) * 360.0 / n_lon
    return OceanContext(n_prognostic, n_forcing, mask, lat, lon, torch.full((n_prognostic,), 0.1))


def small(**changes: object) -> SamudraConfig:
    return SamudraConfig(**{"width": (4, 6), "dilation": (1, 2), "expansion": 1, "norm": "none", **changes})


def fill(model: Samudra) -> None:
    """Weights that are a function of their place alone, so that the forward pass can be compared between codes."""
    state = model.state_dict()
    for i, key in enumerate(sorted(state)):
        tensor = state[key]
        if key.endswith(("cap", "num_batches_tracked")):
            continue
        s = torch.sin(0.7 * torch.arange(tensor.numel(), dtype=torch.float64) + i).reshape(tensor.shape)
        if key.endswith("running_var"):
            s = 1 + 0.5 * s
        elif tensor.ndim == 4:
            s = s * math.sqrt(2 / (tensor.shape[1] * tensor.shape[2] * tensor.shape[3]))
        elif key.endswith(("convblock.1.weight", "convblock.4.weight")):
            s = 1 + 0.1 * s
        else:
            s = 0.1 * s
        tensor.copy_(s)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "n_parameters", "moments", "values"),
    [
        (V1, 135_376_762, (-0.000021, 1.133407), (-0.28232, -1.22327, -0.59115)),
        (V2, 84_066_474, (-0.000084, 2.268349), (0.49872, -3.30305, -0.05431)),
    ],
    ids=["v1", "v2"],
)
def test_is_the_published_model(
    config: SamudraConfig, n_parameters: int, moments: tuple[float, float], values: tuple[float, ...]
) -> None:
    """Fingerprints were taken from the published code with the same weights and input."""
    model = config.build(ocean(77, 4, 45, 180)).eval()
    assert sum(p.numel() for p in model.parameters()) == n_parameters
    assert len(model.state_dict()) == 178
    fill(model)
    x = torch.sin(0.01 * torch.arange(162 * 45 * 180, dtype=torch.float64)).float().reshape(1, 162, 45, 180)
    with torch.no_grad():
        y = model(x[:, :154].unflatten(1, (2, 77)), x[:, 154:].unflatten(1, (2, 4))).flatten(1, 2)
    assert (y.mean().item(), y.std().item()) == pytest.approx(moments, abs=2e-5)
    assert (y[0, 0, 0, 0].item(), y[0, 76, 22, 90].item(), y[0, 153, -1, -1].item()) == pytest.approx(values, abs=2e-5)


def moves_with_longitude(config: SamudraConfig, n_lon: int = 32) -> bool:
    torch.manual_seed(0)
    model = config.build(ocean(3, 1, 16, n_lon)).eval()
    states, forcing = torch.randn(1, 1, 3, 16, n_lon), torch.randn(1, 2, 1, 16, n_lon)
    with torch.no_grad():
        rolled = model(states.roll(8, -1), forcing.roll(8, -1))
        return torch.allclose(rolled, model(states, forcing).roll(8, -1), atol=1e-5)


def test_knows_no_longitude() -> None:
    assert moves_with_longitude(small())
    assert moves_with_longitude(small(norm="instance"))


def test_longitude_is_known_by_coordinates_by_a_seam_and_by_widths_that_do_not_divide() -> None:
    assert not moves_with_longitude(small(coordinates=True))
    assert not moves_with_longitude(small(upsampling="bilinear"))
    assert not moves_with_longitude(small(), n_lon=34)


@pytest.mark.parametrize(("n_lat", "n_lon"), [(16, 32), (17, 35), (18, 30)])
def test_keeps_the_grid_and_zeros_on_land(n_lat: int, n_lon: int) -> None:
    wet = torch.rand(3, n_lat, n_lon) > 0.4
    model = small(output_states=2, coordinates=True, bathymetry=True).build(ocean(3, 1, n_lat, n_lon, wet))
    states = torch.randn(2, 1, 3, n_lat, n_lon) * wet
    y = model(states, torch.randn(2, 2, 1, n_lat, n_lon))
    assert y.shape == (2, 2, 3, n_lat, n_lon)
    assert (y[:, :, ~wet] == 0).all()
    assert (y[:, :, wet] != 0).any()


def test_begins_near_persistence_when_it_predicts_change() -> None:
    states, forcing = torch.randn(1, 1, 3, 16, 32), torch.randn(1, 2, 1, 16, 32)
    change = small().build(ocean(3, 1, 16, 32))(states, forcing) - states[:, -1:]
    assert 0 < change.abs().mean() < 0.05


@pytest.mark.parametrize(
    ("shape", "dilation"), [((16, 32), (1, 2, 4, 8)), ((4, 64), (1, 1)), ((64, 6), (1, 2))], ids=["lon", "lat", "odd"]
)
def test_a_grid_too_small_is_refused(shape: tuple[int, int], dilation: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"model.dilation: .* the grid of \d+ × \d+ has \d+ × \d+ there; use fewer"):
        small(width=4, dilation=dilation).build(ocean(3, 1, *shape))


def test_one_width_stands_for_all() -> None:
    assert small(width=5).widths == (5, 5)


def test_bfloat16_is_near_float32() -> None:
    states, forcing = torch.randn(1, 1, 3, 16, 32), torch.randn(1, 2, 1, 16, 32)
    outputs = []
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        outputs.append(small(precision=precision).build(ocean(3, 1, 16, 32))(states, forcing))
    assert outputs[1].dtype == torch.float32
    assert not torch.equal(*outputs)
    assert torch.allclose(*outputs, atol=5e-3)


def test_gelu_is_capped() -> None:
    x = torch.tensor([-3.0, 1.0, 9.9, 50.0])
    expected = torch.nn.functional.gelu(x)
    expected[-1] = 10
    assert torch.equal(CappedGELU(10)(x), expected)


def test_upsampling_a_constant_gives_it_back() -> None:
    assert torch.equal(Upsample(periodic=True)(torch.ones(1, 1, 3, 4)), torch.ones(1, 1, 6, 8))
