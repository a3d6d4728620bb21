"""Released weights: every layout in which they were saved gives the model that they are of, and nothing else is taken."""

import os
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ocean_emulators.errors import UserError
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.released.layouts import read_layout
from ocean_emulators.models.released.published import export, load
from ocean_emulators.models.released.weights import Weights, read_weights
from ocean_emulators.models.samudra import Samudra, SamudraConfig
from ocean_emulators.stepper import Stepper
from ocean_emulators.tensors import load_tensors
from tests.released import N_LAT, N_LON, as_averaged, as_legacy, as_linear, as_parallel, ocean, release, small

V1 = {"expansion": 4, "upsampling": "bilinear"}
V2 = {"expansion": 2}
TAU_HFDS, ALL = 3, 4

VARIANTS: dict[str, tuple[dict[str, Any], int, int, Callable[[dict[str, Tensor]], dict[str, Any]]]] = {
    # settings, prognostic channels of a state, forcing channels, layout
    "v1, 162": (V1, 77, ALL, dict),
    "v1, 158, first release": (V1 | {"forcing_times": [0]}, 77, ALL, as_legacy),
    "v1, 82, first release": (V1 | {"forcing_times": [0]}, 39, ALL, as_legacy),
    "v2, 162": (V2, 77, ALL, dict),
    "v2, 160": (V2, 77, TAU_HFDS, dict),
    "v2, 160, instance norm": (V2 | {"norm": "instance"}, 77, TAU_HFDS, dict),
    "v2, parallel": (V2, 77, ALL, as_parallel),
    "v2, linear": (V2, 77, ALL, as_linear),
    "first five levels": (V2, 21, ALL, dict),
    "last kernel 1": (V2 | {"head_kernel": 1}, 9, TAU_HFDS, dict),
    "three poolings": (V2 | {"widths": [2, 3, 4], "dilation": [1, 2, 4]}, 9, TAU_HFDS, dict),
    "another cap": (V2 | {"activation_cap": 6.0}, 9, TAU_HFDS, dict),
}


def output(model: Samudra, stacked: Tensor) -> Tensor:
    """Of the model as it was trained, by states and forcing."""
    n = model.config.input_states * model.grid("x1").mask.shape[0]
    states = stacked[:, :n].unflatten(1, (model.config.input_states, -1))
    forcing = stacked[:, n:].unflatten(1, (len(model.config.forcing_times), -1))
    with torch.no_grad():
        return model.eval()(states, forcing).flatten(1, 2)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_gives_the_model_that_was_saved(name: str, tmp_path: Path) -> None:
    settings, n_prognostic, n_forcing, layout = VARIANTS[name]
    grid = ocean(n_prognostic, n_forcing)
    trained = small(grid, **settings)
    path = release(tmp_path / "ckpt.pt", layout(trained.state_dict()))
    published = load(path, grid=grid)
    assert published.config == trained.config
    assert len(published.channels_in) == trained.in_channels
    assert len(published.channels_out) == trained.out_channels
    assert published.history == 1

    stacked = torch.randn(2, trained.in_channels, N_LAT, N_LON)
    with torch.no_grad():
        found = published.model(stacked)
        assert torch.equal(found, output(trained, stacked))
        assert (found.unflatten(1, (2, -1))[:, :, ~grid.mask] == 0).all()
        # Without a grid there is no land, and any grid will do.
        anywhere = load(path).model
        assert torch.equal(anywhere(stacked), trained.network(stacked))
        assert anywhere(torch.randn(1, trained.in_channels, 20, 40)).shape == (1, trained.out_channels, 20, 40)


def test_channels_have_the_published_names_and_order(tmp_path: Path) -> None:
    path = release(tmp_path / "ckpt.pt", small(ocean(77, 4), **V1).state_dict())
    published = load(path)
    assert published.fields_out == ("uo", "vo", "thetao", "so", "zos")
    assert published.fields_in == (*published.fields_out, "tauuo", "tauvo", "hfds", "hfds_anomalies")
    assert (published.channels_in[0], published.channels_in[76], published.channels_in[77]) == (
        ("uo_0", -1),
        ("zos", -1),
        ("uo_0", 0),
    )
    assert published.channels_in[154:] == tuple((name, time) for time in (-1, 0) for name in published.fields_in[5:])
    assert (published.channels_out[19], published.channels_out[-1]) == (("vo_0", 1), ("zos", 2))


def test_thermodynamic_fields_alone_are_told_by_their_number(tmp_path: Path) -> None:
    path = release(tmp_path / "ckpt.pt", small(ocean(39, 4), **V1, forcing_times=[0]).state_dict())
    published = load(path)
    assert published.fields_out == ("thetao", "so", "zos")
    assert published.channels_in[-4:] == tuple((name, 0) for name in published.fields_in[3:])
    ten = release(tmp_path / "ten.pt", small(ocean(21, 4), **V2).state_dict())
    assert load(ten).fields_out == ("uo", "vo", "thetao", "so", "zos")
    assert load(ten, levels=range(10)).fields_out == ("thetao", "so", "zos")
    with pytest.raises(
        UserError, match=r"ten.pt: 42 channels out .* on 7 levels; they fit uo, vo, thetao, so, zos on 5"
    ):
        load(ten, levels=range(7))


def test_what_tensors_do_not_say_can_be_told(tmp_path: Path) -> None:
    grid = ocean(9, 3)
    trained = small(grid, **V2, dilation=[1, 1], norm="none", upsampling="bilinear")
    path = release(tmp_path / "ckpt.pt", trained.state_dict())
    published = load(path, grid=grid, dilation=(1, 1), norm="none", upsampling="bilinear")
    assert published.config == trained.config
    assert load(path).config.dilation == (1, 2)
    assert load(path).config.upsampling == "periodic_bilinear"


def test_a_stepper_rolls_it_out_as_it_is(tmp_path: Path) -> None:
    grid = ocean(9, 3)
    trained = small(grid, **V2)
    published = load(release(tmp_path / "ckpt.pt", trained.state_dict()), grid=grid)
    states, forcing = torch.randn(1, 2, 9, N_LAT, N_LON) * grid.mask, torch.randn(3, 1, 2, 3, N_LAT, N_LON)
    rollouts = [
        list(Stepper(model.eval(), trained.config).rollout(states, forcing.__getitem__, 3))
        for model in (published.model, trained)
    ]
    assert all(torch.equal(*pair) for pair in zip(*rollouts, strict=True))


@pytest.mark.parametrize("layout", [dict, as_parallel, as_legacy])
def test_the_moving_average_is_taken_where_there_is_one(
    layout: Callable[[dict[str, Tensor]], dict[str, Tensor]], tmp_path: Path
) -> None:
    raw, average = small(ocean(9, 3), **V2), small(ocean(9, 3), **V2, seed=1)
    path = release(tmp_path / "ckpt.pt", layout(raw.state_dict()), ema=as_averaged(average, layout))
    averaged, plain = load(path).model, load(path, averaged=False).model
    for name, parameter in average.named_parameters():
        assert torch.equal(averaged.get_parameter(name), parameter)
        assert torch.equal(plain.get_parameter(name), raw.get_parameter(name))
    # The published average is of parameters alone.
    for name, buffer in raw.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            assert torch.equal(averaged.get_buffer(name), buffer)


def test_an_average_of_other_parameters_is_refused(tmp_path: Path) -> None:
    model = small(ocean(9, 3), **V2)
    ema = as_averaged(model, dict)
    ema["ema_params"]["unetlayers99weight"] = ema["ema_params"].pop("decoderbias")
    path = release(tmp_path / "ckpt.pt", model.state_dict(), ema=ema)
    with pytest.raises(
        UserError, match=r"no parameter: unetlayers99weight; it is missing for: decoder.bias; take the raw"
    ):
        load(path)
    load(path, averaged=False)
    with pytest.raises(UserError, match=r"expected tensors by name under ema.ema_params; take the raw weights"):
        load(release(path, model.state_dict(), ema={"ema_params": [1, 2]}))


class Malice:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_checkpoint_that_wants_to_run_code_is_refused_and_the_code_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "ckpt.pt", tmp_path / "was_here"
    torch.save({"model": small(ocean(9, 3), **V2).state_dict(), "wandb_id": Malice(trace)}, path)
    with pytest.raises(UserError, match=r"ckpt.pt: refused: reading it would call posix.system, and no code is run"):
        load(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists(), "the file does what the test says"


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_losses_may_be_numpys_numbers(module: str, tmp_path: Path) -> None:
    state = small(ocean(9, 3), **V2).state_dict()
    saved = release(tmp_path / "saved.pt", state, best_val_loss=np.float64(0.5), epoch=np.int64(70))
    path = tmp_path / "ckpt.pt"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("/data.pkl"):
                content = content.replace(b"numpy._core.multiarray", module.encode())
                assert module.encode() in content
            new.writestr(name, content)
    assert load(path).fields_out == load(saved).fields_out
    assert load_tensors(path)["best_val_loss"] == 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"state_dict": {}, "epoch": 1},
            "expected the weights' tensors under the key 'model'; the file holds epoch, state",
        ),
        ({"model": "weights"}, "expected the weights' tensors under the key 'model'"),
        ({"model": {}}, "not the weights of a Samudra: .* found nothing"),
        (
            {"model": {"encoder.perceiver.latents": torch.ones(1)}},
            "not the weights of a Samudra: .* found encoder.perc",
        ),
        (torch.ones(2), "can't be read as a checkpoint: it holds one Tensor"),
        (torch.nn.Linear(1, 1), "refused: reading it would call torch.nn.modules.linear.Linear"),
    ],
)
def test_what_holds_no_samudra_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "ckpt.pt")
    with pytest.raises(UserError, match=rf"ckpt.pt: {message}"):
        load(tmp_path / "ckpt.pt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 nor this"])
def test_what_is_no_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.pt: no checkpoint here; give the path of released weights"):
        load(tmp_path / "none.pt")
    (tmp_path / "ckpt.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"ckpt.pt: can't be read as a checkpoint: ") as caught:
        load(tmp_path / "ckpt.pt")
    assert "weights_only" not in str(caught.value)


BLOCK = "unet.layers.2.convblock"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{BLOCK}.3.bias": None}, rf"not the model's weights: missing: {BLOCK}.3.bias"),
        ({"decoder.weight": None}, "missing: decoder.weight"),
        ({f"{BLOCK}.2.cap": None}, f"missing: {BLOCK}.2.cap"),
        ({f"{BLOCK}.1.running_mean": None}, f"missing: {BLOCK}.1.running_mean"),
        ({"positional_params": torch.ones(2, 16, 32)}, "not known: positional_params"),
        ({f"{BLOCK}.3.bias": torch.ones(5)}, rf"of the wrong shape: {BLOCK}.3.bias \[5\] instead of \[4\]"),
        (
            {"decoder.weight": torch.ones(18, 2)},
            r"decoder.weight is \[18, 2\]: expected the weights \[out, in, lat, lon\]",
        ),
        ({f"{BLOCK}.2.cap": torch.tensor(3.0)}, r"cap their activations at \[3.0, 10.0\]"),
        (
            {"unet.layers.10.convblock.0.weight": torch.ones(1)},
            r"expected the blocks .* 4n, found \[0, 2, 4, 6, 8, 10\]",
        ),
        ({"decoder.weight": torch.ones(16, 2, 3, 3)}, "16 channels out are not two states .* fit nothing published"),
        (
            {"unet.layers.0.convblock.0.weight": torch.ones(4, 25, 3, 3)},
            "7 channels in beside the states: expected those",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(changes: dict[str, Tensor | None], message: str, tmp_path: Path) -> None:
    state = small(ocean(9, 3), **V2).state_dict() | changes
    path = release(tmp_path / "ckpt.pt", {name: tensor for name, tensor in state.items() if tensor is not None})
    with pytest.raises(UserError, match=rf"ckpt.pt: .*{message}"):
        load(path)


def test_an_ocean_with_other_channels_or_too_small_a_grid_is_refused(tmp_path: Path) -> None:
    path = release(tmp_path / "ckpt.pt", small(ocean(9, 3), **V2).state_dict())
    with pytest.raises(UserError, match="predicts 9 channels, driven by 3; the ocean given as grid has 9 and 4"):
        load(path, grid=ocean(9, 4))
    with pytest.raises(UserError, match=r"the grid of 4 × 4 has"):
        load(path, grid=ocean(9, 3, 4, 4))


@pytest.mark.parametrize("settings", [V1, V1 | {"forcing_times": [0]}, V2, V2 | {"norm": "instance"}])
def test_exported_weights_come_back_bit_for_bit(settings: dict[str, Any], tmp_path: Path) -> None:
    trained = small(ocean(9, 4), **settings)
    export(trained, tmp_path / "ours.pt")
    published = load(tmp_path / "ours.pt")
    state, found = trained.state_dict(), published.model.state_dict()
    assert list(found) == list(state)
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    assert published.config == trained.config
    assert list(torch.load(tmp_path / "ours.pt", weights_only=True)["model"]) == list(state)
    export(published.model, tmp_path / "again.pt")
    again = read_weights(tmp_path / "again.pt").tensors
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    "settings",
    [
        V2 | {"norm": "none"},
        V2 | {"upsampling": "bilinear"},
        V1 | {"upsampling": "periodic_bilinear", "dilation": (1, 1)},
        V2 | {"activation_cap": 6.1},
    ],
)
def test_what_the_tensors_do_not_say_is_handed_out(settings: dict[str, Any], tmp_path: Path) -> None:
    grid = ocean(9, 4)
    model, path = small(grid, **settings).eval(), tmp_path / "ours.pt"
    beside = export(model, path)
    assert set(beside) == set(settings) - {"expansion", "activation_cap"}
    again = load(path, grid=grid, **beside)
    assert again.config == model.config
    states, forcing = torch.randn(1, 2, 9, N_LAT, N_LON), torch.randn(1, 2, 4, N_LAT, N_LON)
    with torch.no_grad():
        assert torch.equal(again.model(states, forcing), model(states, forcing))


def test_a_cap_that_is_another_is_refused(tmp_path: Path) -> None:
    export(small(ocean(9, 4), **V2, activation_cap=0.5), tmp_path / "ours.pt")
    model = small(ocean(9, 4), **V2)
    with pytest.raises(UserError, match=r"convblock.2.cap is 0.5 instead of 10 \(model.activation_cap\)"):
        read_weights(tmp_path / "ours.pt").put_into(model)


def test_what_is_given_to_a_loaded_model_is_checked(tmp_path: Path) -> None:
    export(small(ocean(9, 4), **V2), tmp_path / "ours.pt")
    model = load(tmp_path / "ours.pt").model
    with pytest.raises(UserError, match="found 25 channels in: these weights take 26"):
        model(torch.randn(1, 25, 16, 32))
    with pytest.raises(UserError, match=r"needs at least .* the grid of 2 × 32 has"):
        model(torch.randn(1, 26, 2, 32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": "change"}, "model.prediction: change"),
        ({"forcing_times": [-1, 1]}, r"model.forcing_times: \[-1, 1\]"),
        ({"bathymetry": True}, "not written: the published layout has no place for model.bathymetry: True"),
        ({"block": "conv"}, "no place for model.block: conv"),
        ({"output_states": 1}, "no place for model.input_states: 2, model.output_states: 1"),
    ],
)
def test_what_the_published_layout_cannot_hold_is_not_exported(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        export(small(ocean(9, 3), **V2 | change), tmp_path / "ours.pt")
    assert not (tmp_path / "ours.pt").exists()


V1_WIDTHS, V2_WIDTHS = (200, 250, 300, 400), (280, 380, 480, 520)
V1_INNER = (800, 1000, 1200, 1600, 1600, 1200, 1000, 800)
V2_INNER = (560, 760, 960, 1040, 1040, 960, 760, 560)


@pytest.mark.parametrize(
    ("width", "settings", "channels", "n_parameters", "n_entries"),
    [
        (V1_WIDTHS, V1, (162, 154), 135_376_762, 178),
        (V1_WIDTHS, V1 | {"forcing_times": [0]}, (158, 154), 135_142_266, 178),
        (V1_WIDTHS, V1 | {"forcing_times": [0]}, (82, 78), 131_644_366, 178),
        (V2_WIDTHS, V2, (162, 154), 84_066_474, 178),
        (V2_WIDTHS, V2, (160, 154), 84_029_994, 178),
        (V2_WIDTHS, V2 | {"norm": "instance"}, (162, 154), 84_038_618, 88),
        (V2_WIDTHS, V2 | {"norm": "instance"}, (160, 154), 84_002_154, 88),
    ],
)
def test_the_published_sizes(
    width: tuple[int, ...], settings: dict[str, Any], channels: tuple[int, int], n_parameters: int, n_entries: int
) -> None:
    """Names, shapes and counts as in the published code; sizes alone, no memory."""
    cin, cout = channels
    n_times = len(settings.get("forcing_times", (-1, 0)))
    with torch.device("meta"):
        context = OceanContext(cout // 2, (cin - cout) // n_times, *(torch.ones(cout // 2, 1, 1) for _ in range(4)))
        model = small(context, **settings, widths=width, dilation=[1, 2, 4, 8])
    state = model.state_dict()
    assert sum(p.numel() for p in model.parameters()) == n_parameters
    assert len(state) == n_entries

    inner = (settings["expansion"] * cin, *(V1_INNER if width == V1_WIDTHS else V2_INNER))
    ends = [cin, *width, *width[::-1], width[0]]
    expected = {"decoder.weight": (cout, width[0], 3, 3), "decoder.bias": (cout,)}
    for i, (e, (a, b)) in enumerate(zip(inner, pairwise(ends), strict=True)):
        block = f"unet.layers.{2 * i}."
        parts = {"0.weight": (e, a, 3, 3), "0.bias": (e,), "2.cap": (), "3.weight": (e, e, 3, 3), "3.bias": (e,)}
        parts |= {"5.cap": (), "6.weight": (b, e, 1, 1), "6.bias": (b,)}
        if settings.get("norm") != "instance":
            for norm in "14":
                parts |= {f"{norm}.{part}": (e,) for part in ("weight", "bias", "running_mean", "running_var")}
                parts[f"{norm}.num_batches_tracked"] = ()
        expected |= {f"{block}convblock.{part}": shape for part, shape in parts.items()}
        if a != b:
            expected |= {f"{block}skip_module.weight": (b, a, 1, 1), f"{block}skip_module.bias": (b,)}
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected

    caps = {name: torch.tensor(10.0) for name in state if name.endswith("cap")}
    layout = read_layout(Weights(Path("ckpt.pt"), state | caps))
    assert layout.config == model.config
    assert (layout.n_prognostic, len(layout.levels)) == (cout // 2, 19)
    assert isinstance(layout.config, SamudraConfig)
