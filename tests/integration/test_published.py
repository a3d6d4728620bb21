"""Released weights through the whole pipeline: imported, evaluated as they are, fine-tuned."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import yaml

from ocean_emulators.models.released.published import PublishedModel, load
from ocean_emulators.models.samudra import Samudra
from tests import released, tiny
from tests.integration.conftest import Project, stages_run

ALL = ["prepare", "stats", "train", "evaluate", "compare"]
CLI = ("python", "-m", "ocean_emulators.cli")
SHORTER = ["evaluation.lead_days=20", "evaluation.start_every=6", "comparison.bootstrap_draws=20"]


def emulator(seed: int) -> Samudra:
    """Random, but near the mean of its input, so that long rollouts stay finite."""
    model = released.small(released.ocean(9, 3), seed=seed, expansion=2)
    with torch.no_grad():
        model.decoder.weight.mul_(0.1)
    return model


def put_weights(project: Project, seed: int) -> None:
    raw, average = emulator(seed), emulator(seed + 1)
    ema = released.as_averaged(average, released.as_parallel)
    released.release(project.root / "seed1.pt", released.as_parallel(raw.state_dict()), ema=ema)


@pytest.fixture(scope="module")
def imported(fresh: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has evaluated released weights; not to be changed."""
    project = fresh.copy(tmp_path_factory.mktemp("imported") / "project")
    preset = project.root / "configs/data/tiny.yaml"
    preset.write_text(yaml.safe_dump(tiny.experiment()["data"]))
    (project.root / ".gitignore").write_text((project.root / ".gitignore").read_text() + "/*.pt\n")
    put_weights(project, seed=1)
    project.run(*CLI, "import", "seed1.pt", "--data", "tiny", *SHORTER)
    project.commit("Released weights")
    (project.root / "first.log").write_text(project.run("dvc", "repro"))
    project.commit("Their evaluation")
    return project


@pytest.fixture
def own(imported: Project, tmp_path: Path) -> Project:
    """A copy to be changed at will."""
    return imported.copy(tmp_path / "project")


def test_they_are_evaluated_without_training(imported: Project) -> None:
    assert stages_run((imported.root / "first.log").read_text()) == ALL
    assert "epoch" not in (imported.root / "first.log").read_text()
    header, *rows = (imported.root / "outputs/train/history.csv").read_text().splitlines()
    assert header.startswith("epoch,train/learning_rate,train/mean/loss")
    assert not rows
    assert "Emulator" in imported.run(*CLI, "report")
    figures = sorted(path.stem for path in imported.root.glob("outputs/evaluation/figures/*.png"))
    assert figures == ["drift", "maps_end", "maps_middle"], "there is no learning curve"
    (run,) = imported.runs()
    assert run.info.status == "FINISHED"
    assert run.data.tags["stages"] == "compare evaluate train"
    assert run.data.params["train.initial_weights.path"] == "seed1.pt"
    assert stages_run(imported.run("dvc", "repro")) == []


def predict(published: PublishedModel, project: Project) -> dict[str, np.ndarray]:
    """The free run of the published model on stacked channels, from the source and its masks alone: {channel: [time, …]}."""
    source = tiny.dataset()
    times = xr.open_zarr(project.root / "outputs/evaluation/predictions.zarr", decode_times=False).sizes["time"]
    stats = {}
    for name in {name for name, _ in published.channels_in}:
        values = source[name].sel(time=slice("2000-01-01", "2002-12-31")).values
        stats[name] = (np.nanmean(values, dtype="f8"), np.nanstd(values, dtype="f8"))

    def normalised(name: str, time: int) -> torch.Tensor:
        mean, std = stats[name]
        return torch.tensor(np.nan_to_num((source[name].values[time] - mean) / std), dtype=torch.float32)

    start = int((source["time"].dt.strftime("%Y-%m-%d").values < "2002-07-01").sum()) + 1
    n = len(published.channels_out)
    states = torch.stack([normalised(name, start + time) for name, time in published.channels_in[:n]])
    predicted = []
    for call in range(-(-times // 2)):
        forcing = [normalised(name, start + 2 * call + time) for name, time in published.channels_in[n:]]
        with torch.no_grad():
            states = published.model(torch.cat([states, torch.stack(forcing)])[None])[0]
        predicted += [states[: n // 2], states[n // 2 :]]
    stacked = torch.stack(predicted[:times]).numpy()
    names = [name for name, _ in published.channels_out[: n // 2]]
    return {name: stacked[:, i] * stats[name][1] + stats[name][0] for i, name in enumerate(names)}


def test_the_predictions_are_those_of_the_published_model(imported: Project) -> None:
    published = load(imported.root / "seed1.pt")
    source = tiny.dataset()
    names = published.channels_out[:9]
    masks = [source[f"mask_{name[-1] if name[-1].isdigit() else 0}"].values for name, _ in names]
    land = torch.tensor(np.stack(masks))
    published.model.grid("x1").mask = land
    expected = predict(published, imported)
    predictions = xr.open_zarr(imported.root / "outputs/evaluation/predictions.zarr")
    for (name, _), wet in zip(names, masks, strict=True):
        field, _, level = name.partition("_")
        found = predictions[field].isel(lev=int(level)).values if level else predictions[field].values
        spread = np.nanstd(source[name].values)
        assert np.abs(found[:, wet] - expected[name][:, wet]).max() < 1e-3 * spread, name
        assert expected[name][:, wet].std() > 1e-2 * spread, name
        assert np.isnan(found[:, ~wet]).all()


def test_other_weights_are_another_experiment(own: Project) -> None:
    before = (own.root / "outputs/evaluation/scores.json").read_text()
    put_weights(own, seed=5)
    own.run(*CLI, "import", "seed1.pt", "--data", "tiny", *SHORTER)
    assert stages_run(own.run("dvc", "repro")) == ["train", "evaluate", "compare"]
    assert (own.root / "outputs/evaluation/scores.json").read_text() != before


def test_weights_that_changed_under_their_name_are_refused(own: Project) -> None:
    put_weights(own, seed=5)
    for command in ((*CLI, "check"), ("dvc", "repro", "--force", "train")):
        assert "train.initial_weights.sha256: seed1.pt has" in own.run(*command, fails=True)


def test_fine_tuning_begins_from_them_also_where_dvc_runs_in_a_copy(own: Project) -> None:
    output = own.run("dvc", "exp", "run", "--temp", "-S", "train.epochs=1", "-S", "train.batch_size=16")
    assert stages_run(output) == ["train", "evaluate", "compare"]
    assert "epoch 1/1" in output


def test_dvc_shows_the_plots(own: Project) -> None:
    own.run("dvc", "plots", "show", "--out", "plots")
    assert (own.root / "plots" / "index.html").is_file()
