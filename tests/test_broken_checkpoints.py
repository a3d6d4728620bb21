"""Whatever is wrong with a checkpoint: one message that names the file, and nothing is written; a state that can't be resumed
from is put aside, and training begins anew."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment
from ocean_emulators.tensors import load_tensors, save_tensors
from ocean_emulators.train.checkpoints import Checkpoint
from ocean_emulators.workspace import Workspace
from tests import damage
from tests.pipeline import run_stage
from tests.prepared import content
from tests.trainers import trainer_of

Content = dict[str, Any]
PARTS = ("format", *Checkpoint.__dataclass_fields__)
OTHERS: dict[str, Any] = {
    "nothing": None,
    "a number": 3,
    "a bool": True,
    "a text": "x",
    "a list": [1, "x"],
    "a dict": {"x": 1},
    "a tensor": torch.ones(2, 3),
    "a sparse tensor": torch.eye(3).to_sparse(),
}


def write_pickle(path: Path) -> None:
    """A file that would run code."""

    class Calls:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return Path.touch, (path.with_name("touched"),)  # type: ignore[return-value]

    torch.save({"format": 2, "model": Calls()}, path)


def first(tensors: dict[str, torch.Tensor]) -> str:
    return next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel() > 1)


def with_weight(change: Callable[[torch.Tensor], Any], *parts: str) -> Callable[[Content], object]:
    def edit(content: Content) -> None:
        for part in parts:
            name = first(content[part])
            content[part][name] = change(content[part][name].clone())

    return edit


def in_another_order(content: Content) -> None:
    """A checkpoint of another experiment: two fields change places, with all that is theirs."""
    order = [1, 0, *range(2, len(content["channels"]))]
    content["channels"] = [content["channels"][k] for k in order]
    for name in ("mean", "std", "change_std"):
        content[name] = content[name][order]


EDITS: dict[str, Callable[[Content], object]] = {
    **{f"without {part}": lambda c, part=part: c.pop(part) for part in PARTS},  # type: ignore[misc]
    "with an extra part": lambda c: c.update(extra=1),
    "with a part that has no name": lambda c: c.update({3: 1}),
    "a weight misshapen": with_weight(lambda t: t[..., None], "averaged_model"),
    "weights misshapen": with_weight(lambda t: t[..., None], "model", "averaged_model"),
    "a weight gone": lambda c: c["averaged_model"].pop(first(c["averaged_model"])),
    "a weight that is none": with_weight(lambda t: "x", "averaged_model"),
    "NaN among the weights": with_weight(lambda t: t.fill_(torch.nan), "averaged_model"),
    "infinity among the raw weights": with_weight(lambda t: t.fill_(torch.inf), "model"),
    "a NaN mean": lambda c: c["mean"].fill_(torch.nan),
    "statistics of fewer channels": lambda c: c.update(std=c["std"][1:]),
    "a channel twice": lambda c: c["channels"].__setitem__(0, c["channels"][1]),
    "no prognostic channel": lambda c: c.update(n_prognostic=0),
    "no model in its config": lambda c: c["config"].pop("model"),
    "a model of no family": lambda c: c["config"]["model"].update(type="x"),
    "another model": lambda c: c["config"]["model"].update(widths=[4, 8]),
    "fields in another order": in_another_order,
    "other statistics": lambda c: c["mean"].add_(1),
    "another fingerprint": lambda c: c.update(data_fingerprint="0" * 64),
}


def require_refused(workspace: Workspace) -> None:
    """By stage evaluate, in words, and nothing is written."""
    path, before = workspace.training.checkpoint, content(workspace.root)
    with pytest.raises(UserError) as caught:
        run_stage(workspace, "evaluate")
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert content(workspace.root) == before


@pytest.mark.parametrize("name", EDITS)
def test_a_checkpoint_that_is_not_what_it_should_be_is_refused(workspace: Workspace, name: str) -> None:
    path = workspace.training.checkpoint
    parts = load_tensors(path)
    EDITS[name](parts)
    save_tensors(parts, path)
    require_refused(workspace)


@pytest.mark.parametrize("kind", ["gone", "empty", "text", "a list", "runs code", "a pickle that runs code"])
def test_what_is_no_checkpoint_is_refused(workspace: Workspace, kind: str) -> None:
    path = workspace.training.checkpoint
    match kind:
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("not a checkpoint")
        case "a list":
            torch.save([1, 2], path)
        case "runs code":
            write_pickle(path)
        case _:
            path.write_bytes(pickle.dumps(np.random.default_rng))
    require_refused(workspace)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_another_type_is_refused(made: Workspace, part: str, tmp_path: Path) -> None:
    parts = load_tensors(made.training.checkpoint)
    for name, other in OTHERS.items():
        if type(other) is not type(parts[part]) or isinstance(other, list | dict | torch.Tensor):
            save_tensors({**parts, part: other}, tmp_path / "c.pt")
            if (part, name) == ("versions", "a dict"):
                continue  # they are for people
            with pytest.raises(UserError, match=r"c\.pt: "):
                Checkpoint.load(tmp_path / "c.pt")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(share=st.floats(0, 1, exclude_max=True), bit=st.none() | st.integers(0, 7))
def test_a_file_that_is_cut_or_has_a_flipped_bit_is_refused_or_means_the_same(
    made: Workspace, tmp_path: Path, share: float, bit: int | None
) -> None:
    """Some bits of a zip archive mean nothing, such as its dates."""
    path, whole = tmp_path / "c.pt", Checkpoint.load(made.training.checkpoint)
    path.write_bytes(made.training.checkpoint.read_bytes())
    (damage.cut(share) if bit is None else damage.flip(share, bit))(path)
    try:
        loaded = Checkpoint.load(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
        return
    assert bit is not None
    for part in ("model", "averaged_model"):
        own, other = getattr(loaded, part), getattr(whole, part)
        assert list(own) == list(other)
        assert all(torch.equal(own[name], other[name]) for name in own)
    assert (loaded.config, loaded.channels, loaded.data_fingerprint) == (
        whole.config,
        whole.channels,
        whole.data_fingerprint,
    )


STATES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": damage.cut(0.5),
    "flipped": damage.flip(0.4, 3),
    "runs code": write_pickle,
    "foreign": lambda path: save_tensors({"x": torch.ones(2)}, path),
    "a list": lambda path: torch.save([1], path),
}
STATE_EDITS: dict[str, Callable[[Content], object]] = {
    "of another model": with_weight(lambda t: t[..., None], "model"),
    "of another format": lambda s: s.update(format=1),
    "moments of another model": lambda s: s["optimisation"]["optimizer"]["state"][0].update(exp_avg=torch.ones(1)),
    "averages of another model": lambda s: s["averages"]["averages"].update({first_of(s): torch.ones(1)}),
    "averages gone": lambda s: s["averages"]["averages"].pop(first_of(s)),
    "no ranks": lambda s: s.pop("ranks"),
    "not finite": with_weight(lambda t: t.fill_(torch.nan), "model"),
    "no history": lambda s: s["place"].update(history=[]),
    "another history": lambda s: s["place"]["history"][0].pop("train/mean/loss"),
    "an epoch that never comes": lambda s: s["place"].update(epoch=99),
    "an epoch that is none": lambda s: s["place"].update(epoch="2"),
}


def first_of(state: Content) -> str:
    return next(iter(state["averages"]["averages"]))


@pytest.mark.parametrize("name", [*STATES, *STATE_EDITS])
def test_a_state_that_cannot_be_resumed_is_put_aside_and_training_begins_anew(
    experiment: Experiment,
    store: PackedStore,
    statistics: Statistics,
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    states, grid = tmp_path / "states", PreparedGrid.of("x1", store, statistics)
    trained = trainer_of(experiment, [grid], states)
    trained.config = trained.config.replace(epochs=1, rollout_steps=(1,))
    trained.run()
    (path,) = trained.store.files
    if name in STATES:
        STATES[name](path)
    else:
        state = load_tensors(path)
        STATE_EDITS[name](state)
        save_tensors(state, path)
    broken = path.read_bytes()
    fresh, again = (trainer_of(experiment, [grid], at) for at in (tmp_path / "other", states))
    assert not again.resume()
    assert not path.exists()
    (kept,) = states.glob("damaged-*.pt")
    assert kept.read_bytes() == broken
    assert f"warning: {path}: " in capsys.readouterr().err
    assert (again.place.epoch, again.place.history) == (0, [])
    for own, new in zip(again.stepper.model.parameters(), fresh.stepper.model.parameters(), strict=True):
        assert torch.equal(own, new)
    assert not again.optimisation.optimizer.state
    assert not list(tmp_path.rglob("touched"))
