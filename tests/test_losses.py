"""The terms of the loss: by hand, as published, and what each of them ignores."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ocean_emulators.config.base import parse
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.errors import UserError
from ocean_emulators.losses.config import LossConfig
from ocean_emulators.losses.grid import LossGrid
from ocean_emulators.models.base import OceanContext
from tests import published_losses as published

MASK = torch.tensor([[[True, True], [True, False]], [[True, False], [False, False]]])
AREA = torch.tensor([[3.0, 3.0], [1.0, 1.0]])
SMALL = LossGrid(
    OceanContext(2, 0, MASK, torch.tensor([0.0, 60.0]), torch.tensor([0.0, 180.0]), torch.tensor([0.5, 0.25])),
    ("so", "zos"),
    torch.ones(2),
    AREA,
    AREA * MASK,
)
PREDICTED = torch.tensor([[[1.0, 2.0], [-3.0, 99.0]], [[4.0, 99.0], [99.0, 99.0]]])[None, None]
TRUTH = torch.zeros(1, 1, 2, 2, 2)

KINDS: dict[str, dict[str, Any]] = {
    "mse": {},
    "mae": {"metric": "mae"},
    "huber": {"metric": "huber", "huber_threshold": 0.5},
    "area": {"area_weighted": True},
    "all": {"normalised_by": "all"},
    "area of all": {"area_weighted": True, "normalised_by": "all"},
    "gradient": {"gradient": {"weight": 0.1}},
    "squared gradient": {"gradient": {"weight": 0.1, "metric": "mse"}},
    "spectral": {"spectral": {"weight": 0.1}},
    "every term": {"metric": "mae", "gradient": {"weight": 1.0}, "spectral": {"weight": 1.0}},
}
"""settings of all kinds of loss"""
PUBLISHED = {"unit": "state", "normalised_by": "all"}
every_kind = pytest.mark.parametrize("kind", KINDS)


def errors(predicted: Tensor, truth: Tensor, grid: LossGrid, **settings: Any) -> Tensor:
    """[window, output state, channel]"""
    return parse(LossConfig, settings, "loss").build({"x1": grid}).errors(predicted, truth, "x1")


def an_ocean(seed: int, channels: int = 2, lats: int = 5, lons: int = 12) -> LossGrid:
    """With land here and there, another share of it for each channel."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(channels, 1, 1, generator=generator)
    mask = torch.rand(channels, lats, lons, generator=generator) > 0.8 * share
    mask[:, 2] = True
    area = torch.linspace(1, 2, lats)[:, None].expand(-1, lons)
    lat, lon = torch.linspace(-60, 60, lats), torch.arange(lons) * 360 / lons
    scale = 0.1 + torch.rand(channels, generator=generator)
    ocean = OceanContext(channels, 0, mask, lat, lon, scale)
    return LossGrid(ocean, ("so", "thetao")[:channels], torch.ones(channels), area, area * mask)


def two_fields(grid: LossGrid, seed: int, windows: int = 2) -> tuple[Tensor, Tensor]:
    """Prediction and truth, [window, 1, channel, lat, lon], 0 on land."""
    mask = grid.ocean.mask
    predicted, truth = torch.randn(2, windows, 1, *mask.shape, generator=torch.Generator().manual_seed(seed)) * mask
    return predicted, truth


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"unit": "state"}, [(1 + 4 + 9) / 3, 16]),
        ({"unit": "state", "metric": "mae"}, [2, 4]),
        ({"unit": "state", "metric": "huber", "huber_threshold": 2.0}, [(0.5 + 2 + 2 * 2) / 3, 2 * 3]),
        ({"unit": "change"}, [4 * (1 + 4 + 9) / 3, 16 * 16]),
        ({"unit": "change", "metric": "mae"}, [4, 16]),
        ({"unit": "change", "metric": "huber", "huber_threshold": 2.0}, [(2 + 2 * 3 + 2 * 5) / 3, 2 * 15]),
        ({"unit": "state", "area_weighted": True}, [(3 * 1 + 3 * 4 + 9) / 7, 16]),
        ({"unit": "state", "field_weights": {"zos": 0.5}}, [(1 + 4 + 9) / 3, 8]),
        ({"unit": "state", "normalised_by": "all"}, [(1 + 4 + 9) / 4, 16 / 4]),
        ({"unit": "state", "normalised_by": "all", "area_weighted": True}, [(3 * 1 + 3 * 4 + 9) / 8, 3 * 16 / 8]),
    ],
)
def test_by_hand(settings: dict[str, Any], expected: list[float]) -> None:
    assert errors(PREDICTED, TRUTH, SMALL, **settings)[0, 0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, published.MSE),
        ({"metric": "mae"}, published.MAE),
        ({"metric": "mae", "gradient": {"weight": 0.1, "metric": "mae"}}, published.MAE_WITH_GRADIENT),
    ],
)
def test_as_published(settings: dict[str, Any], expected: list[float]) -> None:
    found = errors(*published.fields(), published.grid(), **PUBLISHED, **settings).mean(0)
    assert found.flatten().tolist() == pytest.approx(expected, abs=6e-7)


@every_kind
def test_windows_and_states_are_apart(kind: str) -> None:
    grid = an_ocean(0)
    predicted, truth = (field.unflatten(0, (2, 2)).squeeze(2) for field in two_fields(grid, 1, windows=4))
    together = errors(predicted, truth, grid, **KINDS[kind])
    assert together.shape == (2, 2, 2)
    for window in range(2):
        for state in range(2):
            one = (slice(window, window + 1), slice(state, state + 1))
            assert torch.allclose(errors(predicted[one], truth[one], grid, **KINDS[kind]), together[one])


@every_kind
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_land_has_no_part_in_value_or_gradient(kind: str, seed: int) -> None:
    grid = an_ocean(seed)
    predicted, truth = two_fields(grid, seed)
    with_junk = torch.where(grid.ocean.mask, predicted, 99.0).requires_grad_()
    found = errors(with_junk, torch.where(grid.ocean.mask, truth, -7.0), grid, **KINDS[kind])
    assert torch.equal(found, errors(predicted, truth, grid, **KINDS[kind]))
    found.sum().backward()
    assert with_junk.grad is not None
    assert (with_junk.grad[..., ~grid.ocean.mask] == 0).all()
    assert (with_junk.grad[..., grid.ocean.mask] != 0).float().mean() > 0.9


@every_kind
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_what_is_right_costs_nothing_and_what_is_wrong_something(kind: str, seed: int) -> None:
    grid = an_ocean(seed)
    predicted, truth = two_fields(grid, seed)
    assert (errors(truth, truth, grid, **KINDS[kind]) == 0).all()
    assert (errors(predicted, truth, grid, **KINDS[kind]) > 0).all()


@pytest.mark.parametrize("metric", ["mse", "mae", "huber"])
@pytest.mark.parametrize("area_weighted", [False, True])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.floats(0.1, 10))
def test_a_channels_share_of_land_is_not_seen_in_the_mean_over_wet_cells(
    metric: str, area_weighted: bool, seed: int, size: float
) -> None:
    """An error that is the same everywhere costs the same in every channel; over all cells, in proportion to the ocean."""
    grid = an_ocean(seed)
    kind = {"metric": metric, "area_weighted": area_weighted, "unit": "state"}
    predicted = torch.full((1, 1, *grid.ocean.mask.shape), size) * grid.ocean.mask
    one, other = errors(predicted, 0 * predicted, grid, **kind).flatten().tolist()
    assert one == pytest.approx(other, rel=1e-5)
    over_all = errors(predicted, 0 * predicted, grid, normalised_by="all", **kind).flatten()
    cells = grid.wet_area if area_weighted else grid.ocean.mask
    whole = grid.area.sum() if area_weighted else grid.area.numel()
    assert torch.allclose(over_all, one * cells.sum((-2, -1)) / whole, rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_hubers_loss_lies_between_its_limits(seed: int) -> None:
    grid = an_ocean(seed)
    predicted, truth = two_fields(grid, seed)
    mse, mae = (errors(predicted, truth, grid, metric=metric) for metric in ("mse", "mae"))
    thresholds = [1e-4, 0.3, 1.0, 3.0, 1e4]
    huber = [errors(predicted, truth, grid, metric="huber", huber_threshold=d) for d in thresholds]
    for below, above in pairwise(huber):
        assert (below <= above * (1 + 1e-6)).all()
    for d, found in zip(thresholds, huber, strict=True):
        assert (found <= torch.minimum(mse / 2, d * mae) * (1 + 1e-6)).all()
    assert torch.allclose(huber[0], 1e-4 * mae, rtol=1e-3)
    assert torch.allclose(huber[-1], mse / 2)


def test_levels_count_by_their_thickness_within_their_field() -> None:
    grid = an_ocean(0, channels=2)
    fields, thickness = ("so", "zos", "so", "uo", "so"), torch.tensor([10.0, 1.0, 20.0, 500.0, 60.0])
    of = [0, 1, 0, 1, 0]
    ocean = OceanContext(5, 0, grid.ocean.mask[of], grid.ocean.lat, grid.ocean.lon, grid.ocean.change_scale[of])
    five = LossGrid(ocean, fields, thickness, grid.area, grid.wet_area[of])
    predicted, truth = two_fields(five, 3)
    kind = KINDS["every term"]
    plain, weighted = (errors(predicted, truth, five, thickness_weighted=w, **kind) for w in (False, True))
    assert torch.allclose(weighted / plain, torch.tensor([1 / 3, 1, 2 / 3, 1, 2]))


def test_what_a_loss_knows_of_a_grid(store: PackedStore, statistics: Statistics) -> None:
    ocean = OceanContext.of(Packing.of(store, statistics), statistics, store.grid)
    grid = LossGrid.of(ocean, store.grid, store.prognostic)
    assert grid.fields == tuple(channel.field.name for channel in store.prognostic)
    for channel, thickness, area in zip(store.prognostic, grid.thickness, grid.wet_area, strict=True):
        assert thickness == (1 if channel.level is None else store.grid.thickness[channel.level])
        assert ((area > 0).numpy() == store.mask[channel.mask_level]).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.integers(0, 11))
def test_spectra_do_not_see_where_along_a_latitude_a_wave_is(seed: int, shift: int) -> None:
    grid = all_wet(1, 5, 12)
    predicted, truth = two_fields(grid, seed)
    here, there = (spectral_part(p, truth, grid) for p in (predicted, predicted.roll(shift, -1)))
    assert torch.allclose(here, there, rtol=1e-3, atol=1e-5)
    assert (spectral_part(truth.roll(shift, -1), truth, grid) < 1e-5).all()


def test_a_wave_of_half_its_amplitude_counts_alike_at_every_scale() -> None:
    grid = all_wet(1, 3, 16)
    lon = torch.deg2rad(grid.ocean.lon)
    waves = [1.0 * torch.cos(lon), 0.1 * torch.cos(7 * lon), 0.01 * torch.cos(7 * lon)]
    found = [spectral_part((0.5 * w).expand(1, 1, 1, 3, -1), w.expand(1, 1, 1, 3, -1), grid).item() for w in waves]
    assert found == pytest.approx([torch.log(torch.tensor(2.0)).item() / 8] * 3, rel=1e-2)


def test_spectra_are_differentiable_where_nothing_is() -> None:
    grid = all_wet(1, 3, 8)
    nothing = torch.zeros(1, 1, 1, 3, 8, requires_grad=True)
    found = errors(nothing, torch.randn(1, 1, 1, 3, 8), grid, spectral={"weight": 1.0}, gradient={"weight": 1.0})
    found.sum().backward()
    assert found.isfinite().all()
    assert nothing.grad is not None
    assert nothing.grad.isfinite().all()


def test_latitudes_of_a_spectrum_count_by_their_area() -> None:
    grid = all_wet(1, 2, 8)
    grid = LossGrid(
        grid.ocean, grid.fields, grid.thickness, AREA[:, :1].expand(-1, 8), AREA[None, :, :1].expand(1, -1, 8)
    )
    truth = torch.randn(1, 1, 1, 2, 8)
    south, north = (torch.tensor([[a], [b]]) * truth for a, b in ((0.5, 1.0), (1.0, 0.5)))
    ratio = spectral_part(south, truth, grid) / spectral_part(north, truth, grid)
    assert ratio.item() == pytest.approx(3, rel=1e-2)


@every_kind
def test_losses_are_float32_under_autocast(kind: str) -> None:
    grid = an_ocean(0)
    predicted, truth = two_fields(grid, 0)
    expected = errors(predicted.bfloat16().float(), truth, grid, **KINDS[kind])
    with torch.autocast("cpu", torch.bfloat16):
        found = errors(predicted.bfloat16(), truth, grid, **KINDS[kind])
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"metric": "rmse"}, ["metric", "'rmse'"]),
        ({"huber_threshold": 2.0}, ["huber_threshold: found 2.0, but metric is mse"]),
        ({"metric": "huber", "huber_threshold": 0.0}, ["huber_threshold: found 0.0", "0.000001"]),
        ({"normalised_by": "land"}, ["normalised_by", "'wet' or 'all'"]),
        ({"over_steps": "max"}, ["over_steps", "'mean' or 'sum'"]),
        ({"gradient": {}}, ["gradient.weight: missing"]),
        ({"gradient": {"weight": 0.0}}, ["gradient.weight: found 0.0", "0.000001"]),
        ({"gradient": {"weight": 1.0, "metric": "huber"}}, ["gradient.metric", "'huber'"]),
        ({"spectral": {"wieght": 1.0}}, ["spectral.wieght: unknown key; did you mean 'weight'"]),
        ({"dynamic": {"limit": 0.5}}, ["dynamic.limit", "greater than or equal to 1"]),
        ({"dynamic": {"memory": 0}}, ["dynamic.memory", "greater than or equal to 1"]),
        ({"dynamic": {"estimate": "delayed"}}, ["dynamic.estimate", "'delayed'"]),
        ({"dynamic": True}, ["dynamic: found True: expected keys and values"]),
    ],
)
def test_what_is_refused(settings: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse(LossConfig, settings, "loss")
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def all_wet(channels: int, lats: int, lons: int) -> LossGrid:
    mask = torch.ones(channels, lats, lons, dtype=torch.bool)
    lat, lon = torch.linspace(-60, 60, lats), torch.arange(lons) * 360 / lons
    ocean = OceanContext(channels, 0, mask, lat, lon, torch.ones(channels))
    return LossGrid(ocean, ("so",) * channels, torch.ones(channels), torch.ones(lats, lons), mask.double())


def spectral_part(predicted: Tensor, truth: Tensor, grid: LossGrid) -> Tensor:
    """What the spectral term adds, [window, output state, channel]."""
    with_it, without = (errors(predicted, truth, grid, spectral=term) for term in ({"weight": 1.0}, None))
    return with_it - without
