"""Samudra is the published model, and respects the geometry of the globe."""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ocean_emulators.config.base import parse
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.errors import UserError
from ocean_emulators.models.layers.blocks import CappedGELU, ConvNeXtBlock, Upsample
from ocean_emulators.models.samudra import Samudra, SamudraConfig
from tests.samudras import ocean, small

PRESETS = Path(__file__).parents[1] / "configs" / "model"
V1, V2, HIGHRES = (
    parse(SamudraConfig, load_yaml(PRESETS / f"samudra_om4_{name}.yaml"), name) for name in ("v1", "v2", "v2_highres")
)


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
    assert (y.mean().item(), y.std().item()) == pytest.approx(moments, abs=4e-6)
    assert (y[0, 0, 0, 0].item(), y[0, 76, 22, 90].item(), y[0, 153, -1, -1].item()) == pytest.approx(
        values, abs=1.5e-5
    )


@pytest.mark.parametrize(
    ("config", "n_forcing", "n_parameters", "n_tensors"),
    [
        (V1, 4, 135_376_762, 178),
        (V1.replace(forcing_times=(0,)), 4, 135_142_266, 178),
        (V2, 4, 84_066_474, 178),
        (V2, 3, 84_029_994, 178),
        (HIGHRES, 4, 84_038_618, 88),
        (HIGHRES, 3, 84_002_154, 88),
    ],
    ids=["v1", "v1 of the first release", "v2", "v2, 160 inputs", "v2_highres", "v2_highres, 160 inputs"],
)
def test_presets_have_the_published_sizes(
    config: SamudraConfig, n_forcing: int, n_parameters: int, n_tensors: int
) -> None:
    with torch.device("meta"):
        model = config.build(ocean(77, n_forcing, 180, 360))
    assert sum(p.numel() for p in model.parameters()) == n_parameters
    assert len(model.state_dict()) == n_tensors


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


@given(st.data())
@settings(deadline=None, max_examples=30)
def test_any_network_moves_with_longitude_zeros_land_and_begins_at_persistence(data: st.DataObject) -> None:
    """Widths that divide by the poolings; any depth, dilation, kernel, block, normalisation and precision of weights."""
    depth = data.draw(st.integers(1, 3))
    config = small(
        widths=tuple(data.draw(st.lists(st.integers(1, 5), min_size=depth, max_size=depth))),
        dilation=tuple(data.draw(st.lists(st.integers(1, 2), min_size=depth, max_size=depth))),
        kernel_size=data.draw(st.sampled_from([1, 3])),
        block=data.draw(st.sampled_from(["convnext", "conv"])),
        norm=data.draw(st.sampled_from(["none", "batch", "instance"])),
        output_states=data.draw(st.integers(1, 2)),
        forcing_times=(0,),
    )
    n_lat, n_lon = data.draw(st.integers(2 * 2**depth, 20)), 2**depth * data.draw(st.integers(4, 6))
    columns = 2**depth * data.draw(st.integers(0, 4))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    wet = torch.rand(3, n_lat, n_lon) > 0.4
    model, moved = (config.build(ocean(3, 1, n_lat, n_lon, w)).eval() for w in (wet, wet.roll(columns, -1)))
    moved.load_state_dict(model.state_dict())
    states, forcing = torch.randn(1, 1, 3, n_lat, n_lon) * wet, torch.randn(1, 1, 1, n_lat, n_lon)
    with torch.no_grad():
        y = model(states, forcing)
        assert torch.allclose(
            moved(states.roll(columns, -1), forcing.roll(columns, -1)).roll(-columns, -1), y, atol=1e-4
        )
        assert (y[:, :, ~wet] == 0).all()
        model.decoder.weight.zero_()
        assert torch.equal(model(states, forcing), states.expand_as(y))


@pytest.mark.parametrize(("n_lat", "n_lon"), [(17, 35), (18, 30)])
def test_keeps_odd_grids(n_lat: int, n_lon: int) -> None:
    model = small(output_states=2, coordinates=True, bathymetry=True).build(ocean(3, 1, n_lat, n_lon))
    y = model(torch.randn(2, 1, 3, n_lat, n_lon), torch.randn(2, 2, 1, n_lat, n_lon))
    assert y.shape == (2, 2, 3, n_lat, n_lon)


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_inference_gives_what_the_written_out_network_does(norm: str) -> None:
    """Norms that were folded into weights, activations in place: the same to rounding."""
    torch.manual_seed(0)
    model = small(norm=norm).build(ocean(3, 1, 16, 32)).train()
    states, forcing = torch.randn(2, 1, 3, 16, 32), torch.randn(2, 2, 1, 16, 32)
    model(states, forcing)  # running statistics
    given = states.clone()
    plain = model.eval()(states, forcing).detach()
    with torch.no_grad():
        assert torch.allclose(model(states, forcing), plain, atol=1e-5)
    assert torch.equal(states, given)


def test_begins_near_persistence_when_it_predicts_change() -> None:
    states, forcing = torch.randn(1, 1, 3, 16, 32), torch.randn(1, 2, 1, 16, 32)
    change = small().build(ocean(3, 1, 16, 32))(states, forcing) - states[:, -1:]
    assert 0 < change.abs().mean() < 0.05


GRIDS = [(n_lat, n_lon) for n_lat in (1, 2, 3, 4, 5, 8, 9, 16) for n_lon in (1, 2, 3, 4, 6, 7, 8, 15, 16, 32)]
NETWORKS = [
    {"dilation": dilation, "norm": norm, "kernel_size": kernel, "block": block}
    for dilation in ((1,), (1, 1), (1, 2), (1, 2, 4), (4, 1))
    for norm in ("none", "batch", "instance")
    for kernel, block in ((3, "convnext"), (5, "conv"), (1, "convnext"))
]


def runs(config: SamudraConfig, shape: tuple[int, int]) -> bool:
    """Whether a window can be trained on, tried."""
    model = Samudra(config, ocean(2, 1, *shape)).train()
    try:
        out = model(torch.randn(1, 1, 2, *shape), torch.randn(1, 2, 1, *shape))
        out.sum().backward()
    except (RuntimeError, ValueError, AssertionError):
        return False
    return out.shape == (1, 1, 2, *shape)


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_grids_are_refused_that_cannot_work_and_no_others(network: dict[str, Any]) -> None:
    config = small(**network, widths=[2] * len(network["dilation"]), head_kernel=1)
    accepted = set()
    for shape in GRIDS:
        try:
            config.check_grid(shape)
            accepted.add(shape)
        except UserError:
            pass
    assert accepted == {shape for shape in GRIDS if runs(config, shape)}


def test_a_grid_too_small_is_refused_with_the_way_out() -> None:
    with pytest.raises(UserError, match=r"model.dilation: .* the grid of 16 × 32 has \d × \d there; use fewer"):
        small(widths=[4] * 4, dilation=(1, 2, 4, 8)).build(ocean(3, 1, 16, 32))


def test_one_width_scales_all() -> None:
    assert SamudraConfig(width=64).channels == (64, 80, 96, 128)
    assert SamudraConfig().channels == (200, 250, 300, 400)
    assert small(width=1, widths=(40, 4)).channels == (1, 1)


@pytest.mark.parametrize("unit", ["change", "state"])
def test_a_change_is_in_units_of_its_own_deviation_or_the_states(unit: Literal["change", "state"]) -> None:
    torch.manual_seed(0)
    states, forcing = torch.randn(1, 1, 3, 16, 32), torch.randn(1, 2, 1, 16, 32)
    model = small(change_unit=unit).build(ocean(3, 1, 16, 32))
    inputs = torch.cat([states.flatten(1, 2), forcing.flatten(1, 2)], dim=1)
    expected = states[:, 0] + {"change": 0.1, "state": 1.0}[unit] * model.network(inputs)
    assert torch.allclose(model(states, forcing)[:, 0], expected)


def test_learned_positions_are_inputs_of_one_grid() -> None:
    config = small(positional_channels=5, coordinates=True)
    model = config.build(ocean(3, 1, 16, 32))
    assert model.in_channels == 3 + 2 + 5 + 3
    assert model.state_dict()["positional_params"].shape == (5, 16, 32)
    model(torch.randn(2, 1, 3, 16, 32), torch.randn(2, 2, 1, 16, 32)).sum().backward()
    assert model.positional_params.grad is not None
    with pytest.raises(UserError, match=r"model.positional_channels: 5 inputs .* there are 2"):
        config.build(ocean(3, 1, 16, 32), dataclasses.replace(ocean(3, 1, 8, 16), name="x2"))


def test_bfloat16_is_near_float32() -> None:
    states, forcing = torch.randn(1, 1, 3, 16, 32), torch.randn(1, 2, 1, 16, 32)
    outputs = []
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        outputs.append(small(precision=precision).build(ocean(3, 1, 16, 32))(states, forcing))
    assert outputs[1].dtype == torch.float32
    assert not torch.equal(*outputs)
    assert torch.allclose(*outputs, atol=5e-3)


def test_a_skip_that_is_the_input_keeps_its_digits() -> None:
    """In bfloat16, where no convolution stands before the first sum."""
    block = ConvNeXtBlock(8, 8, 1, expansion=1, norm="none").eval()
    x = 10 * torch.randn(1, 8, 8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            inferred = block(x)
        written_out = block(x).detach()
    assert inferred.dtype == written_out.dtype == torch.float32
    assert torch.allclose(inferred, written_out, atol=1e-2)


def test_what_is_not_finite_does_not_stay_on_land() -> None:
    wet = torch.rand(3, 16, 32, generator=torch.Generator().manual_seed(0)) > 0.4
    model = small(prediction="state").build(ocean(3, 1, 16, 32, wet))
    y = model(torch.full((1, 1, 3, 16, 32), torch.inf), torch.randn(1, 2, 1, 16, 32))
    assert not y[..., wet].isfinite().all()
    assert (y[..., ~wet] == 0).all()


def test_gelu_is_capped() -> None:
    x = torch.tensor([-3.0, 1.0, 9.9, 50.0])
    expected = torch.nn.functional.gelu(x)
    expected[-1] = 10
    assert torch.equal(CappedGELU(10)(x), expected)


def test_upsampling_a_constant_gives_it_back() -> None:
    assert torch.equal(Upsample(periodic=True)(torch.ones(1, 1, 3, 4)), torch.ones(1, 1, 6, 8))
