"""FOMO has the published size and structure, computes what its formulas say, and its weights belong to no grid."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ocean_emulators.config.base import parse
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.datasets.statistics.compute import compute_statistics
from ocean_emulators.datasets.store.packed_store import open_store, store_path
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.families import parse_model
from ocean_emulators.models.fomo import chunks
from ocean_emulators.models.fomo.chunks import in_chunks
from ocean_emulators.models.fomo.embeddings import (
    PatchEncoding,
    cell_features,
    patch_root_area,
    position_encoding,
    scale_encoding,
    waves,
)
from ocean_emulators.models.fomo.model import Fomo, FomoConfig
from ocean_emulators.models.fomo.patches import cut, join_windows, split_windows
from ocean_emulators.models.fomo.perceiver import Attention, FeedForward, LatentsConfig, Perceiver, PerceiverIO
from ocean_emulators.models.fomo.perceiver_decoder import PerceiverDecoder, PerceiverDecoderConfig
from ocean_emulators.plan import make_plan
from tests import tiny
from tests.fomos import TINY, ocean, small
from tests.trainers import trainer_of

PRESET = Path(__file__).parents[1] / "configs" / "model" / "fomo_published.yaml"


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def published() -> FomoConfig:
    config = parse_model(load_yaml(PRESET), str(PRESET))
    assert isinstance(config, FomoConfig)
    return config


def test_the_preset_has_the_published_size_and_latent_grid() -> None:
    resolutions = [ocean(180, 360, 77, 3), ocean(360, 720, 77, 3), ocean(720, 1440, 77, 3)]
    grids = cut(resolutions, published().patch_extent)
    assert [grid.patch for grid in grids] == [(3, 5), (6, 10), (12, 20)]
    assert {grid.latent_shape for grid in grids} == {(60, 72)}
    with torch.device("meta"):
        meta = [OceanContext(77, 3, torch.ones(77, 180, 360), o.lat, o.lon, torch.ones(77)) for o in resolutions[:1]]
        model = published().build(*meta)
    assert (model.in_channels, model.out_channels) == (160, 154)
    assert parameters(model.encoder) == 945_096
    assert parameters(model.processor) == 74_150_788
    assert parameters(model.decoder) == 671_530
    assert parameters(model) == 75_767_414


def test_defaults_are_the_published_structure() -> None:
    config = published()
    assert (config.encoder, config.processor, config.decoder) == (
        FomoConfig().encoder,
        FomoConfig().processor,
        FomoConfig().decoder,
    )


def call(model: Fomo, shape: tuple[int, int], grid: str | None = None, wet: Tensor | None = None) -> Tensor:
    torch.manual_seed(1)
    states, forcing = torch.randn(2, 1, 3, *shape), torch.randn(2, 2, 1, *shape)
    y: Tensor = model(states if wet is None else states * wet, forcing, grid)
    return y


@pytest.mark.parametrize("prediction", ["state", "change"])
def test_keeps_each_grid_and_zeros_on_land(prediction: str) -> None:
    shapes = {"x1": (16, 32), "x2": (32, 48)}
    wet = {grid: torch.rand(3, *shape) > 0.4 for grid, shape in shapes.items()}
    config = small(prediction=prediction, coordinates=True, bathymetry=True)
    model = config.build(*(ocean(*shape, wet=wet[grid], name=grid) for grid, shape in shapes.items()))
    for grid, shape in shapes.items():
        y = call(model, shape, grid, wet[grid])
        assert y.shape == (2, 1, 3, *shape)
        assert (y[:, :, ~wet[grid]] == 0).all()
        assert (y[:, :, wet[grid]] != 0).all()


def test_a_grid_is_known_by_its_name_alone() -> None:
    """The order that a model was given its grids in means nothing, and none is guessed where there are several."""
    grids = [ocean(16, 32), ocean(32, 64, name="x2")]
    model, other = small().build(*grids), small().build(*reversed(grids))
    other.load_state_dict(model.state_dict())
    for grid in grids:
        assert torch.equal(call(model, grid.grid_shape, grid.name), call(other, grid.grid_shape, grid.name))
    with pytest.raises(AssertionError, match="on which of the grids"):
        call(model, (16, 32))
    with pytest.raises(AssertionError, match="two grids of one name"):
        small().build(ocean(16, 32), ocean(32, 64))


def test_weights_belong_to_no_grid() -> None:
    """Weights from two resolutions run on one of them, on a third, and on a part of the globe."""
    model = small().build(ocean(16, 32), ocean(32, 64, name="x2"))
    alone = small().build(ocean(32, 64))
    alone.load_state_dict(model.state_dict())
    assert torch.equal(call(model, (32, 64), "x2"), call(alone, (32, 64)))
    for shape, reach in (((24, 16), 90.0), ((48, 48), 90.0), ((16, 32), 45.0)):
        third = small(patch_extent=(reach / 4, 22.5)).build(ocean(*shape, reach=reach))
        third.load_state_dict(model.state_dict())
        assert call(third, shape).isfinite().all()


def test_begins_near_persistence_when_it_predicts_change() -> None:
    states, forcing = torch.randn(1, 1, 3, 16, 32), torch.randn(1, 2, 1, 16, 32)
    change = small().build(ocean(16, 32))(states, forcing) - states[:, -1:]
    assert 0 < change.abs().mean() < 0.05


def test_bfloat16_is_near_float32() -> None:
    outputs = []
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        outputs.append(call(small(precision=precision).build(ocean(16, 32)), (16, 32)))
    assert outputs[1].dtype == torch.float32
    assert not torch.equal(*outputs)
    assert torch.allclose(*outputs, atol=5e-3)


def test_every_weight_gets_a_gradient() -> None:
    model = small().build(ocean(16, 32))
    call(model, (16, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_no_patch_sees_another_before_the_processor_and_no_window_beyond_its_ring() -> None:
    model = small().build(ocean(16, 32))
    x = torch.randn(1, 5, 16, 32)
    elsewhere = x.clone()
    elsewhere[..., :2, :2] += 1  # the patch in the south-west
    changed = (model.encoder(x, "x1") != model.encoder(elsewhere, "x1")).any(1)[0]
    assert changed[0, 0]
    assert changed.sum() == 1
    latent = torch.randn(1, 8, 8, 16)
    other = latent.clone()
    other[0, :, 0, 0] = torch.randn(8)  # not a constant: that is what normalisation takes off
    changed = (model.decoder(latent, x, "x1") != model.decoder(other, x, "x1")).any(1)[0]
    expected = torch.zeros(16, 32, dtype=torch.bool)
    expected[:8, :8] = expected[:8, -8:] = True  # its own window, and the one that it borders around the globe
    assert torch.equal(changed, expected)


# --- Attention, written out


def randomise(module: nn.Module) -> None:
    """Fresh weights leave norms without a say."""
    torch.manual_seed(3)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p) / 2)


def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
    mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(var + 1e-5) * layer.weight + layer.bias


def attend(a: Attention, x: Tensor, context: Tensor, heads: int, width: int) -> Tensor:
    """For [n, width] and [m, context_width], head by head and query by query."""
    q = a.to_q.weight @ x.T
    k, v = (a.to_kv.weight @ context.T).tensor_split(2)
    rows = []
    for i in range(len(x)):
        values = []
        for head in range(heads):
            of_head = slice(head * width, (head + 1) * width)
            weights = torch.exp(q[of_head, i] @ k[of_head] / math.sqrt(width))
            values.append(v[of_head] @ (weights / weights.sum()))
        rows.append(a.to_out.weight @ torch.cat(values) + a.to_out.bias)
    return torch.stack(rows)


def cross(a: Attention, x: Tensor, context: Tensor, width: int) -> Tensor:
    assert a.norm_context is not None
    return attend(a, norm(x, a.norm), norm(context, a.norm_context), 1, width)


def think(a: Attention, x: Tensor, heads: int, width: int) -> Tensor:
    return attend(a, norm(x, a.norm), norm(x, a.norm), heads, width)


def feed(f: FeedForward, x: Tensor) -> Tensor:
    a = norm(x, f.norm) @ f.rise.weight.T + f.rise.bias
    values, gates = a.tensor_split(2, dim=-1)
    return (values * gates * 0.5 * (1 + torch.erf(gates / math.sqrt(2)))) @ f.fall.weight.T + f.fall.bias


LATENTS = LatentsConfig(latents=4, latent_width=6, heads=2, head_width=5)


def test_the_perceiver_is_its_formula() -> None:
    model = Perceiver(token_width=7, out_width=3, depth=2, config=LATENTS).double()
    randomise(model)
    tokens = torch.randn(2, 9, 7, dtype=torch.float64)
    for sequence, y in zip(tokens, model(tokens), strict=True):
        x = model.latents
        for depth in range(2):
            read = model.read[depth]
            x = x + cross(read.attention, x, sequence, 5)
            x = x + feed(read.feed_forward, x)
            for block in model.think[depth]:
                x = x + think(block.attention, x, 2, 5)
                x = x + feed(block.feed_forward, x)
        expected = model.out.weight @ norm(x.mean(0), model.norm) + model.out.bias
        assert torch.allclose(y, expected)


def test_the_perceiver_io_is_its_formula() -> None:
    model = PerceiverIO(token_width=7, query_width=8, depth=3, config=LATENTS).double()
    randomise(model)
    tokens, queries = torch.randn(2, 9, 7, dtype=torch.float64), torch.randn(2, 11, 8, dtype=torch.float64)
    for sequence, asked, y in zip(tokens, queries, model(tokens, queries), strict=True):
        x = model.latents + cross(model.read.attention, model.latents, sequence, 5)
        x = x + feed(model.read.feed_forward, x)
        for _ in range(3):
            x = x + think(model.think.attention, x, 2, 5)
            x = x + feed(model.think.feed_forward, x)
        answer = cross(model.answer, asked, x, 5)
        assert torch.allclose(y, answer + feed(model.feed_forward, answer))


# --- Encodings


def test_the_place_in_a_patch_is_given_by_fourier_features() -> None:
    features = cell_features((3, 5), max_frequency=20, bands=4)
    assert features.shape == (15, 18)
    scales = [1, 4, 7, 10]
    for cell in range(15):
        expected: list[float] = []
        for p in (cell // 5 - 1.0, cell % 5 / 2 - 1):
            expected += [math.sin(math.pi * p * s) for s in scales] + [math.cos(math.pi * p * s) for s in scales] + [p]
        assert features[cell] == pytest.approx(expected)


def test_positions_are_waves_of_mean_latitude_and_longitude() -> None:
    grid = cut([ocean(180, 360)], (3, 5))[0]
    encoded = position_encoding(grid, 128)
    assert encoded.shape == (60, 72, 128)
    lat, lon = -90 + 3 * 7 + 1.5, 5 * 11 + 2.5
    lengths = [0.01 * (720 / 0.01) ** (i / 31) for i in range(32)]
    expected = [f(2 * math.pi * x / w) for x in (lat, lon) for f in (math.sin, math.cos) for w in lengths]
    assert encoded[7, 11] == pytest.approx(expected, abs=1e-8)
    finer = cut([ocean(360, 720)], (3, 5))[0]
    assert position_encoding(finer, 128) == pytest.approx(encoded, abs=1e-8)


def test_scales_are_waves_of_the_root_of_the_area() -> None:
    grid = cut([ocean(180, 360)], (3, 5))[0]
    south, north = math.radians(-89.5), math.radians(-87.5)
    x = math.sqrt(6371**2 * math.pi * (math.sin(north) - math.sin(south)) * math.radians(4))
    assert patch_root_area(grid)[0, 5] == pytest.approx(x)
    lengths = [1.0814e-4 * (5.1121e8 / 1.0814e-4) ** (i / 63) for i in range(64)]
    expected = [f(2 * math.pi * x / w) for f in (math.sin, math.cos) for w in lengths]
    assert scale_encoding(grid, 128)[0, 5] == pytest.approx(expected, abs=1e-5)


def test_waves_need_float64() -> None:
    x = np.array([359.5])
    assert abs(waves(x, 0.01, 720, 64) - waves(x.astype("f4") + np.float32(0.001), 0.01, 720, 64)).max() > 0.5


def test_encodings_are_added() -> None:
    grids = cut([ocean(16, 32), ocean(32, 64, name="x2")], (22.5, 22.5))
    encoding = PatchEncoding(8, grids)
    x = torch.randn(2, 8, 16, 8)
    for grid in grids:
        position, scale = (torch.tensor(f(grid, 8)).float() for f in (position_encoding, scale_encoding))
        expected = x + encoding.position(position) + encoding.scale(scale)
        assert torch.allclose(encoding(x, grid.name), expected, atol=1e-6)


# --- Patches, windows, chunks


def test_windows_are_joined_as_they_were_split() -> None:
    x = torch.randn(2, 3, 8, 12)
    windows = split_windows(x, (4, 3))
    assert windows.shape == (2 * 2 * 4, 12, 3)
    assert torch.equal(windows[8 + 4 + 2], x[1, :, 4:8, 6:9].flatten(1).T)
    assert torch.equal(join_windows(windows, (4, 3), (8, 12)), x)


@pytest.mark.parametrize("ring", [0, 1, 2])
def test_windows_decoded_together_are_those_decoded_one_by_one(ring: int) -> None:
    grid = cut([ocean(16, 32)], (22.5, 22.5))[0]
    config = small().decoder.replace(context=ring)
    decoder = config.build(8, 3, [grid])
    randomise(decoder)
    latent = torch.randn(2, 8, 8, 16)
    together = decoder(latent, latent, "x1")
    assert together.shape == (2, 3, 16, 32)
    xyz = grid.ocean.unit_sphere()
    tokens = decoder.encoding(latent.permute(0, 2, 3, 1), "x1")
    for i, j in np.ndindex(2, 4):
        for batch in range(2):
            patches = []
            for row in range(4 * i - ring, 4 * i + 4 + ring):
                for column in range(4 * j - ring, 4 * j + 4 + ring):
                    beyond = not 0 <= row < 8
                    patches.append(torch.zeros(8) if beyond else tokens[batch, row, column % 16])
            cells = (slice(8 * i, 8 * i + 8), slice(8 * j, 8 * j + 8))
            queries = decoder.query(xyz[:, *cells].flatten(1).T)
            read = decoder.head(decoder.perceiver(torch.stack(patches)[None], queries[None]))
            expected = read[0].T.reshape(3, 8, 8)
            assert torch.allclose(together[batch, :, *cells], expected, atol=1e-4)


def test_one_window_can_hold_all_patches() -> None:
    grid = cut([ocean(16, 32)], (22.5, 22.5))[0]
    decoder = small().decoder.replace(window=None).build(8, 3, [grid])
    latent = torch.randn(1, 8, 8, 16)
    tokens = decoder.encoding(latent.permute(0, 2, 3, 1), "x1").flatten(1, 2)
    queries = decoder.query(grid.ocean.unit_sphere().flatten(1).T[None])
    expected = decoder.head(decoder.perceiver(tokens, queries)).transpose(1, 2).reshape(1, 3, 16, 32)
    assert torch.allclose(decoder(latent, latent, "x1"), expected, atol=1e-5)


def test_chunks_change_neither_values_nor_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(4, 2)
    x, y = torch.randn(7, 4, requires_grad=True), torch.randn(7, 4)
    calls: list[int] = []

    def function(a: Tensor, b: Tensor) -> Tensor:
        calls.append(len(a))
        out: Tensor = layer(a * b).tanh()
        return out

    results = []
    for most in (100, 30):
        x.grad = layer.weight.grad = None
        monkeypatch.setattr(chunks, "MOST_VALUES", most)
        out = in_chunks(function, x, y, values=10)
        out.sum().backward()
        assert x.grad is not None
        results.append((out.detach(), x.grad, layer.weight.grad))
    assert calls == [7, 3, 3, 1, *calls[4:]]
    assert sorted(calls[4:]) == [1, 3, 3]  # again, on the way back
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    monkeypatch.setattr(chunks, "MOST_VALUES", 1)
    with torch.no_grad():
        assert torch.allclose(in_chunks(function, x, y, values=10), results[0][0], atol=1e-6)


def test_a_model_in_chunks_trains_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(precision="bfloat16").build(ocean(16, 32))
    gradients = []
    for most in (2**27, 1000):
        monkeypatch.setattr(chunks, "MOST_VALUES", most)
        model.zero_grad()
        call(model, (16, 32)).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.allclose(*gradients, rtol=0.05, atol=0.05 * float(gradients[0].abs().max()))


# --- What is refused


@pytest.mark.parametrize(
    ("changes", "oceans", "message"),
    [
        (
            {"patch_extent": (30, 16)},
            [ocean(16, 45)],
            r"model.patch_extent: \[30, 16\] degrees are 3 × 2 cells of the grid of 16 × 45 \(lat × lon\), which do not "
            r"divide it; the nearest that fits is \[22.5, 24\]",
        ),
        ({"patch_extent": (4, 90)}, [ocean(16, 32)], r"are 0 × 8 cells .* the nearest that fits is \[11.25, 90\]"),
        (
            {"patch_extent": (22.5, 20)},
            [ocean(16, 32), ocean(32, 36, name="x2")],
            r"model.patch_extent: \[22.5, 20\] degrees give 8 × 16 patches on the grid of 16 × 32 but 8 × 18 patches on "
            r"the grid of 32 × 36; all resolutions must have as many: the nearest that fits is \[22.5, 90\]",
        ),
        (
            {"decoder": {"type": "perceiver", "window": 5}},
            [ocean(16, 32)],
            r"model.decoder.window: found 5, which does not divide the latent grid of 8 × 16 patches; these do: 1, 2, 4, 8",
        ),
        (
            {"decoder": {"type": "perceiver", "window": 4, "context": 17}},
            [ocean(16, 32)],
            r"model.decoder.context: found 17, more than the 16",
        ),
        (
            {"processor": {"widths": (8, 8, 8, 8), "dilation": (1, 1, 1, 1)}},
            [ocean(16, 32)],
            r"model.processor.dilation: \[1, 1, 1, 1\] needs at least 2 × 2 patches after 3 pooling\(s\), but the latent grid "
            r"of 8 × 16 has 1 × 2 there",
        ),
    ],
    ids=["divide", "too small", "differ", "window", "ring", "processor"],
)
def test_a_grid_that_does_not_fit_is_refused(
    changes: dict[str, object], oceans: list[OceanContext], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        small(**changes).build(*oceans)


def test_what_is_said_to_fit_does() -> None:
    for fits in ((22.5, 24), (11.25, 360 / 45)):
        assert cut([ocean(16, 45)], fits)


def test_a_patch_is_as_large_on_a_part_of_the_globe() -> None:
    assert cut([ocean(180, 360)], (3, 5))[0].patch == cut([ocean(120, 360, reach=60)], (3, 5))[0].patch == (3, 5)


def test_the_decoder_can_be_built_for_one_resolution_or_many() -> None:
    grids = cut([ocean(16, 32), ocean(32, 64, name="x2")], (22.5, 22.5))
    both, one = (PerceiverDecoder(PerceiverDecoderConfig(window=4), 8, 3, g) for g in (grids, grids[1:]))
    assert both.state_dict().keys() == one.state_dict().keys()


# --- In an experiment


# Patches of 22.5° × 22.5° are of 2 × 2 cells on the tiny ocean, 1 × 1 on its half.
def test_it_learns_on_two_grids_together(source: Path, tmp_path: Path) -> None:
    tree = tiny.experiment(source, epochs=2, rollout_steps=[1], passes=[1, 1])
    tree["data"]["coarsen"] = [1, 2]
    experiment = parse(Experiment, {**tree, "model": TINY}, "tiny")
    prepare(experiment.data, tmp_path / "prepared")
    stores = [open_store(store_path(tmp_path / "prepared", f"x{factor}")) for factor in (1, 2)]
    statistics = compute_statistics(stores[0], experiment.data.periods.train)
    grids = [PreparedGrid.of(name, store, statistics) for name, store in zip(("x1", "x2"), stores, strict=True)]
    trainer = trainer_of(experiment, grids, tmp_path / "states")
    trainer.run()
    for name in ("train/mean/loss", "train/x2/mean/loss", "val/mean/loss", "val/x2/mean/loss"):
        assert 0 < trainer.place.history[1][name] < trainer.place.history[0][name], name
    again = parse_model(experiment.dump()["model"], "last.pt")
    assert again == experiment.model
    context = OceanContext.of(grids[1].packing, statistics, stores[1].grid)
    again.build(context).load_state_dict(trainer.stepper.model.state_dict())


def test_the_plan_knows_it_and_refuses_a_grid_before_any_work(source: Path) -> None:
    tree = {**tiny.experiment(source), "model": {**TINY, "coordinates": True}}
    plan = make_plan(parse(Experiment, tree, "tiny"))
    assert plan.cost.n_parameters == parameters(FomoConfig(**tree["model"]).build(ocean(16, 32, 9, 3)))
    tree["model"]["patch_extent"] = [30, 22.5]
    with pytest.raises(
        UserError, match=r"model.patch_extent: \[30, 22.5\] degrees are 3 × 2 cells of the grid of 16 × 32"
    ):
        make_plan(parse(Experiment, tree, "tiny"))
