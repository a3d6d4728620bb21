"""`ocean-emulators import`, and training that begins from given weights."""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from ocean_emulators.build import context_of
from ocean_emulators.cli import main as cli
from ocean_emulators.config.base import parse
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment, load_experiment
from ocean_emulators.files import sha256
from ocean_emulators.jobs.train import write_results
from ocean_emulators.models.released.published import load
from ocean_emulators.tensors import load_tensors, save_tensors
from ocean_emulators.train.trainer import Trainer
from ocean_emulators.workspace import TrainingFiles, Workspace
from tests import released, tiny
from tests.trainers import trainer_of

ORDER = ["uo", "vo", "thetao", "so", "zos"]


@pytest.fixture
def preset(project: Path, source: Path) -> None:
    """The tiny ocean as a preset of the project's data."""
    folder = project / "configs" / "data"
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny.experiment()["data"]))


def released_file(path: Path, n_prognostic: int = 9, n_forcing: int = 3, **settings: Any) -> Path:
    model = released.small(released.ocean(n_prognostic, n_forcing), **{"expansion": 2, **settings})
    return released.release(path, model.state_dict())


def imported(*arguments: str) -> Experiment:
    cli.main(["import", "weights/seed1.pt", "--data", "tiny", *arguments])
    return load_experiment()


@pytest.mark.usefixtures("preset")
def test_an_experiment_is_made_of_what_the_tensors_say(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "weights").mkdir()
    path = released_file(project / "weights/seed1.pt")
    experiment = imported("train.batch_size=3", "model.precision=bfloat16")
    assert experiment.name == "seed1"
    assert (list(experiment.data.prognostic), experiment.data.levels) == (ORDER, (0, 1))
    assert experiment.data.forcing == ("tauuo", "tauvo", "hfds")
    assert experiment.data.statistics.period == "all"
    assert experiment.data.anomaly_period == "train", "there are no anomalies"
    model = experiment.model
    assert (model.widths, model.expansion, model.norm, model.prediction) == ((2, 3), 2, "batch", "state")
    assert (model.input_states, model.output_states, model.forcing_times) == (2, 2, (-1, 0))
    assert (model.precision, experiment.train.batch_size, experiment.train.epochs) == ("bfloat16", 3, 0)
    initial = experiment.train.initial_weights
    assert initial is not None
    assert (initial.path, initial.sha256, initial.averaged) == ("weights/seed1.pt", sha256(path), True)
    assert initial.find(Workspace(project, project)) == path
    printed = capsys.readouterr().out
    for part in ("wrote params.yaml", "model.dilation=[1, 2] model.upsampling=periodic_bilinear", "OM4_means.zarr"):
        assert part in printed


@pytest.mark.usefixtures("preset")
def test_levels_and_fields_follow_from_the_channels(project: Path) -> None:
    (project / "weights").mkdir()
    path = project / "weights/seed1.pt"
    released_file(path, 5, 4, forcing_times=[0], expansion=4)
    experiment = imported()
    # As many levels as the preset has, before all else: temperature and salinity on two, not all fields on one.
    assert (experiment.data.prognostic, experiment.data.levels) == (("thetao", "so", "zos"), (0, 1))
    assert experiment.data.forcing[3] == "hfds_anomalies"
    assert experiment.data.anomaly_period == "all"
    assert (experiment.model.forcing_times, experiment.model.upsampling) == ((0,), "bilinear")
    assert list(imported("--levels", "1").data.prognostic) == ORDER
    released_file(path, 21, 3)
    assert imported().data.levels == (0, 1, 2, 3, 4)


@pytest.mark.usefixtures("preset")
def test_weights_are_run_as_they_were_published(project: Path) -> None:
    (project / "weights").mkdir()
    released_file(project / "weights/seed1.pt", norm="instance")
    high_resolution = imported().model
    assert (high_resolution.precision, high_resolution.checkpointing) == ("bfloat16", "layers")
    released_file(project / "weights/seed1.pt")
    assert imported().model.precision == "float32"


@pytest.mark.usefixtures("preset")
def test_an_experiment_that_its_weights_do_not_fit_is_not_made(
    project: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "weights").mkdir()
    released_file(project / "weights/seed1.pt")
    for arguments, message in (
        (
            ["data.forcing=[hfds]"],
            "of the wrong shape: unet.layers.0.skip_module.weight [2, 24, 1, 1] instead of [2, 20",
        ),
        (["--levels", "0"], "argument --levels: found 0: expected 1 or more"),
    ):
        with pytest.raises(SystemExit, match="2"):
            imported(*arguments)
        assert message in capsys.readouterr().err
        assert not (project / "params.yaml").exists()
    imported()
    tree = yaml.safe_load((project / "params.yaml").read_text())
    tree["data"]["source"] = os.path.relpath(source)
    tree["model"]["widths"] = [3, 3]
    (project / "params.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(SystemExit, match="2"):
        cli.main(["check"])
    assert "these are not the model's weights: " in capsys.readouterr().err


@pytest.mark.usefixtures("preset")
def test_what_is_no_weights_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["none.pt"], "error: none.pt: no checkpoint here; give the path of released weights"),
        (["none.pt", "--data", "mars"], "error: no preset 'mars' in configs/data/ (there are: tiny)"),
    ):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["import", "--data", "tiny", *arguments])
        assert capsys.readouterr().err.startswith(message)
    assert not (project / "params.yaml").exists()


@pytest.fixture
def grid(store: PackedStore, statistics: Statistics) -> PreparedGrid:
    return PreparedGrid.of("x1", store, statistics)


def results(trainer: Trainer, experiment: Experiment, grid: PreparedGrid, folder: Path) -> TrainingFiles:
    files = TrainingFiles(folder)
    write_results(trainer, experiment.training, grid, files, trainer.weights())
    return files


def trainer_from(
    path: str, grid: PreparedGrid, scratch: Path, digest: str = "", model: dict[str, Any] | None = None, **train: Any
) -> tuple[Experiment, Trainer]:
    initial = {"path": path, "sha256": digest or sha256(Path(path))}
    tree = tiny.experiment(initial_weights=initial, **{"rollout_steps": [1], "epochs": 0, **train})
    tree["model"] |= model or {}
    experiment = parse(Experiment, tree, "tiny")
    return experiment, trainer_of(experiment, [grid], scratch, workspace=Workspace.here())


PUBLISHED = {
    "widths": [2, 3],
    "expansion": 2,
    "norm": "batch",
    "input_states": 2,
    "output_states": 2,
    "forcing_times": [-1, 0],
    "prediction": "state",
}


def test_without_epochs_the_result_is_what_it_began_from(project: Path, grid: PreparedGrid) -> None:
    path = released_file(project / "seed1.pt")
    experiment, trainer = trainer_from("seed1.pt", grid, project, model=PUBLISHED)
    trainer.run()
    files = results(trainer, experiment, grid, project)
    state, released_state = load_tensors(files.checkpoint), torch.load(path, weights_only=True)["model"]
    for name, tensor in released_state.items():
        assert torch.equal(state["model"][name], tensor)
        assert torch.equal(state["averaged_model"][name], tensor)
    history = pd.read_csv(files.history)
    assert history.empty

    _, longer = trainer_from("seed1.pt", grid, project, model=PUBLISHED, epochs=1)
    longer.run()
    assert [*history.columns, "train/seconds"] == ["epoch", *longer.place.history[0]]


def test_training_goes_on_from_the_weights(project: Path, grid: PreparedGrid) -> None:
    _, first = trainer_from_scratch(project, grid)
    _, second = trainer_from("own.pt", grid, project, epochs=1, learning_rate=1e-4)
    averages = first.averages.averaged_state()
    assert all(torch.equal(averages[n], p) for n, p in second.stepper.model.named_parameters())
    second.run()
    assert second.place.history[0]["train/mean/loss"] < first.place.history[0]["train/mean/loss"]


def trainer_from_scratch(project: Path, grid: PreparedGrid) -> tuple[Experiment, Trainer]:
    """One epoch, saved as a checkpoint of the project's own."""
    experiment = parse(Experiment, tiny.experiment(epochs=1, rollout_steps=[1]), "tiny")
    trainer = trainer_of(experiment, [grid], project / "scratch")
    trainer.run()
    results(trainer, experiment, grid, project).checkpoint.rename("own.pt")
    return experiment, trainer


def test_weights_of_other_channels_are_refused(project: Path, grid: PreparedGrid) -> None:
    trainer_from_scratch(project, grid)
    content = load_tensors(Path("own.pt"))
    content["channels"].reverse()
    save_tensors(content, Path("own.pt"))
    with pytest.raises(UserError, match=r"own.pt: trained on other channels .* order: hfds, tauvo, .* set data.prog"):
        trainer_from("own.pt", grid, project)


def test_another_file_or_none_is_refused(project: Path, grid: PreparedGrid) -> None:
    released_file(project / "seed1.pt")
    with pytest.raises(UserError, match=r"initial_weights.sha256: seed1.pt has [0-9a-f]{64}, not 0{64}: it is another"):
        trainer_from("seed1.pt", grid, project, digest="0" * 64, model=PUBLISHED)
    with pytest.raises(UserError, match=r"initial_weights.path: none.pt: no such file"):
        trainer_from("none.pt", grid, project, digest="0" * 64, model=PUBLISHED)
    with pytest.raises(
        UserError, match=r"seed1.pt: these are not the model's weights: of the wrong shape: unet.layers.0"
    ):
        trainer_from("seed1.pt", grid, project, model=PUBLISHED | {"expansion": 1})


def test_the_file_is_found_from_a_copy_of_the_project(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, grid: PreparedGrid
) -> None:
    digest = sha256(released_file(project / "seed1.pt"))
    monkeypatch.setenv("DVC_ROOT", str(project))
    monkeypatch.chdir(tmp_path_factory.mktemp("copy"))
    trainer_from("seed1.pt", grid, project, digest=digest, model=PUBLISHED)


def test_imported_weights_predict_as_in_the_published_model(project: Path, grid: PreparedGrid) -> None:
    """Of a trainer's stepper and of `load`, on the ocean's own mask."""
    released_file(project / "seed1.pt")
    _, trainer = trainer_from("seed1.pt", grid, project, model=PUBLISHED)
    published = load(project / "seed1.pt", grid=context_of(grid))
    states, forcing = torch.randn(1, 2, 9, 16, 32), torch.randn(1, 2, 3, 16, 32)
    with torch.no_grad():
        expected = trainer.stepper.model.eval()(states, forcing)
        stacked = torch.cat([states.flatten(1, 2), forcing.flatten(1, 2)], dim=1)
        assert torch.equal(published.model(stacked), expected.flatten(1, 2))
