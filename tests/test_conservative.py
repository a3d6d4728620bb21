"""Means to the latent grid conserve, interpolation is linear, and nothing has a seam or a grid of its own."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ocean_emulators.errors import UserError
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.fomo.conservative import ConservativeEncoder, ConservativeEncoderConfig
from ocean_emulators.models.fomo.model import Fomo, FomoConfig
from ocean_emulators.models.fomo.regridding import Axes, interpolation, overlaps
from tests.fomos import CONSERVATIVE, ocean


def fomo(*oceans: OceanContext, **changes: object) -> Fomo:
    torch.manual_seed(0)
    return FomoConfig.model_validate({**CONSERVATIVE, **changes}).build(*oceans)


def land(n_lat: int, n_lon: int, n: int = 3) -> Tensor:
    return torch.rand(n, n_lat, n_lon, generator=torch.Generator().manual_seed(1)) > 0.4


@given(
    st.integers(2, 40), st.integers(2, 40), st.floats(5, 60), st.floats(5, 120), st.floats(20, 90), st.floats(-720, 720)
)
@settings(deadline=None)
def test_cells_of_both_grids_share_all_their_area(
    n_lat: int, n_lon: int, extent_lat: float, extent_lon: float, reach: float, shift: float
) -> None:
    grid = ocean(n_lat, n_lon, reach=reach)
    fine = Axes.of(dataclasses.replace(grid, lon=grid.lon + shift))
    coarse = fine.latent((extent_lat, extent_lon))
    lat, lon = overlaps(fine, coarse)
    assert lat.shape[0] == coarse.shape[0] and lon.shape[0] == coarse.shape[1]
    for shared, edges, axis in ((lat, np.sin(np.deg2rad(fine.lat)), 0), (lat, np.sin(np.deg2rad(coarse.lat)), 1)):
        assert np.allclose(shared.sum(axis), np.diff(edges), atol=1e-12)
    assert np.allclose(lon.sum(0), np.diff(fine.lon)) and np.allclose(lon.sum(1), np.diff(coarse.lon))
    back_lat, back_lon = interpolation(coarse, fine)
    assert np.allclose(back_lat.sum(1), 1) and np.allclose(back_lon.sum(1), 1)
    assert (back_lat >= -1e-12).all() and (back_lon >= -1e-12).all()


def test_interpolation_is_linear_between_centres_and_around_the_globe() -> None:
    coarse, fine = Axes(np.linspace(-90, 90, 5), np.linspace(0, 360, 5)), Axes.of(ocean(8, 16))
    lat, lon = interpolation(coarse, fine)
    assert np.allclose(lat @ [-67.5, -22.5, 22.5, 67.5], np.clip(np.arange(-78.75, 90, 22.5), -67.5, 67.5))
    wave = lon @ [0, 1, 0, -1.0]  # at 45, 135, 225, 315 degrees east
    # At 11.25°E and at 348.75°E, both between 315°E and 45°E.
    assert (wave[0], wave[-1]) == pytest.approx((-(45 - 11.25) / 90, -(45 + 11.25) / 90))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("shape", [(16, 32), (8, 16), (5, 7), (30, 50)])
def test_means_conserve_what_each_channel_holds_in_its_ocean(shape: tuple[int, int], half: bool) -> None:
    """Of any grid, whether the latent grid divides it or not: the sum over wet area is the same on both."""
    wet = land(*shape)
    context = ocean(*shape, wet=wet)
    latent = Axes.of(context).latent((22.5, 22.5))
    encoder = ConservativeEncoderConfig(width=4).build(5, [0, 1, 2, None, None], [context], latent)
    assert isinstance(encoder, ConservativeEncoder)
    x = torch.randn(2, 5, *shape)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        means = encoder(x, "x1")[:, :3].double()
    area = torch.tensor(np.outer(np.diff(np.sin(np.deg2rad(Axes.of(context).lat))), np.full(shape[1], 360 / shape[1])))
    fine = (x[:, :3].double() * wet * area).sum((-2, -1))
    coarse = (means * encoder.wet_area("x1")[:3].double()).sum((-2, -1))
    assert torch.allclose(fine, coarse, atol=1e-3)
    constant = encoder(torch.ones(1, 5, *shape), "x1")[0, :3]
    has_ocean = encoder.wet_area("x1")[:3] > 1e-6
    assert torch.allclose(constant[has_ocean], torch.ones(int(has_ocean.sum())), atol=1e-4)


def test_what_stands_on_land_changes_nothing_of_the_latent_means() -> None:
    wet = land(16, 32)
    context = ocean(16, 32, wet=wet)
    encoder = ConservativeEncoderConfig(width=4).build(3, [0, 1, 2], [context], Axes.of(context).latent((45, 45)))
    x = torch.randn(1, 3, 16, 32)
    changed = torch.where(wet, x, x + 100)
    assert torch.equal(encoder(x, "x1")[:, :3], encoder(changed, "x1")[:, :3])


def test_one_set_of_weights_runs_on_every_resolution() -> None:
    """On those it was built for, and on others: some that patches don't divide, one coarser than the latent grid."""
    model = fomo(ocean(16, 32), ocean(8, 16, name="x2"))
    for shape in ((16, 32), (8, 16), (12, 20), (5, 9), (30, 64)):
        wet = land(*shape)
        other = fomo(ocean(*shape, wet=wet), prediction="state")
        other.load_state_dict(model.state_dict())
        y = other(torch.randn(2, 1, 3, *shape) * wet, torch.randn(2, 2, 1, *shape))
        assert y.shape == (2, 1, 3, *shape)
        assert (y[:, :, ~wet] == 0).all() and (y[:, :, wet] != 0).all()


def test_a_fresh_model_knows_no_seam() -> None:
    """Moving the input around the globe by a latent cell of the coarsest resolution moves the output."""
    model = fomo(ocean(16, 32), prediction="state").eval()
    states, forcing = torch.randn(1, 1, 3, 16, 32), torch.randn(1, 2, 1, 16, 32)
    with torch.no_grad():
        moved = model(states.roll(8, -1), forcing.roll(8, -1))
        assert torch.allclose(moved, model(states, forcing).roll(8, -1), atol=1e-5)


def test_the_size_of_cells_is_learned() -> None:
    model = fomo(ocean(16, 32), ocean(8, 16, name="x2"))
    model(torch.randn(1, 1, 3, 16, 32), torch.randn(1, 2, 1, 16, 32), "x1").sum().backward()
    gradients = [p.grad for name, p in model.named_parameters() if "modulation.weight" in name]
    assert gradients and all(g is not None and (g != 0).any() for g in gradients)


def test_residual_with_a_zero_head_is_persistence() -> None:
    model = fomo(ocean(16, 32), ocean(8, 16, name="x2"))
    torch.nn.init.zeros_(model.decoder.head.weight)
    for grid, shape in {"x1": (16, 32), "x2": (8, 16)}.items():
        states = torch.randn(2, 1, 3, *shape)
        assert torch.equal(model(states, torch.randn(2, 2, 1, *shape), grid), states)


SMALL = {"latents": 2, "latent_width": 4, "heads": 1, "head_width": 4}
PERCEIVERS = {
    "encoder": {"type": "perceiver", "width": 4, "depth": 1, **SMALL},
    "decoder": {"type": "perceiver", "window": None, **SMALL},
}


@pytest.mark.parametrize(
    ("read_by", "stretch"),
    [((), 1.0), ((), 0.9), (("encoder",), 0.9), (("decoder",), 0.9), (("encoder", "decoder"), 0.9)],
)
@pytest.mark.parametrize("norm", ["none", "instance"])
@pytest.mark.parametrize("dilation", [(1,), (1, 1), (1, 4), (2, 1, 2), (13,)])
def test_latent_grids_are_refused_that_cannot_work_and_no_others(
    dilation: tuple[int, ...], norm: str, read_by: tuple[str, ...], stretch: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same grid with coarser and coarser latent grids; what is refused is tried all the same. Perceivers have a latent
    grid of whole cells, which may be another than the extent makes of degrees."""
    processor = {"widths": (4,) * len(dilation), "dilation": dilation, "expansion": 1, "norm": norm}
    states, forcing = torch.randn(1, 1, 3, 16, 32), torch.randn(1, 2, 1, 16, 32)
    accepted, working = set(), set()
    for n_lat in (1, 2, 3, 4, 8, 9):
        for n_lon in (1, 2, 4, 8, 15, 16, 32):
            extent = (180 / n_lat, stretch * 360 / n_lon)
            changes = {"patch_extent": extent, "processor": processor, **{part: PERCEIVERS[part] for part in read_by}}
            try:
                fomo(ocean(16, 32), **changes)
                accepted.add((n_lat, n_lon))
            except UserError as error:
                if "which do not divide it" in str(error):
                    assert read_by and not _divides((16, 32), extent)
                    continue
            with monkeypatch.context() as patched:
                patched.setattr("ocean_emulators.models.fomo.model.first_too_small", lambda *_: None)
                model = fomo(ocean(16, 32), **changes).train()
            try:
                if model(states, forcing).shape == states.shape:
                    working.add((n_lat, n_lon))
            except (RuntimeError, ValueError, AssertionError):
                pass
    assert accepted == working
    assert len(working) > 0


def _divides(shape: tuple[int, int], extent: tuple[float, float]) -> bool:
    cells = [round(size * n / whole) for size, n, whole in zip(extent, shape, (180, 360), strict=True)]
    return all(cell > 0 and n % cell == 0 for cell, n in zip(cells, shape, strict=True))


@pytest.mark.parametrize("read_by", ["encoder", "decoder"])
def test_a_perceiver_shares_its_latent_grid_with_the_other_part(read_by: str) -> None:
    """On a grid that neither begins at Greenwich nor reaches the poles: what changes in one place is felt there alone."""
    grid = ocean(24, 48, reach=75)
    grid = dataclasses.replace(grid, lon=grid.lon - 180)
    processor = {"widths": (8,), "dilation": (1,), "expansion": 1, "norm": "none"}
    model = fomo(grid, **{"patch_extent": (6, 7.5), "processor": processor, read_by: PERCEIVERS[read_by]}).eval()
    model.processor = torch.nn.Conv2d(model.encoder.out_channels, 8, 1)  # type: ignore[assignment]
    states, forcing = torch.randn(1, 1, 3, 24, 48), torch.randn(1, 2, 1, 24, 48)
    changed = states.clone()
    changed[..., 12, 6] += 1
    if read_by == "decoder":  # whose window is the whole grid
        latents = [
            model.encoder(torch.cat([s.flatten(1, 2), forcing.flatten(1, 2)], 1), "x1") for s in (states, changed)
        ]
        moved = (latents[0] - latents[1]).abs().sum((0, 1)).nonzero()
        assert (moved - torch.tensor([12, 6])).abs().max() <= 2
        return
    moved = (model(states, forcing) - model(changed, forcing)).abs().sum((0, 1, 2)).nonzero()
    assert (moved - torch.tensor([12, 6])).abs().max() <= 3
