"""The pipeline under DVC: what runs when, what it leaves, and what MLflow shows of it."""

import json
import math
from typing import Any

import pytest
import xarray as xr

from tests.integration.conftest import ALL, Project, leaves, stages_run


def test_everything_runs_once(done: Project) -> None:
    assert stages_run((done.root / "first.log").read_text()) == ALL
    again = done.run("dvc", "repro")
    assert stages_run(again) == []
    assert "up to date" in again


def test_predictions_open_with_cf_names(done: Project) -> None:
    predictions = xr.open_zarr(done.root / "outputs/evaluation/predictions.zarr")
    assert predictions["thetao"].dims == ("time", "lev", "lat", "lon")
    assert predictions["zos"].dims == ("time", "lat", "lon")
    assert predictions["thetao"].attrs["standard_name"] == "sea_water_potential_temperature"
    assert predictions["uo"].attrs["units"] == "m s-1"
    assert predictions["lev"].attrs["positive"] == "down"
    surface = predictions["thetao"].isel(lev=0).load()
    assert bool(surface.isel(lat=0).isnull().all())
    assert bool(surface.sel(lon=200, method="nearest").isel(lat=8).notnull().all())


def test_scores_are_finite_and_figures_drawn(done: Project) -> None:
    for name in ("evaluation/scores.json", "comparison/comparison.json"):
        values = leaves(json.loads((done.root / "outputs" / name).read_text()))
        assert len(values) > 10
        assert all(map(math.isfinite, values))
    figures = sorted(path.stem for path in done.root.glob("outputs/*/figures/*.png"))
    # No Nino3.4: this grid has no cell in its box.
    of_free_run = ["drift", "maps_end", "maps_middle"]
    assert figures == sorted(
        [*of_free_run, "error_by_depth", "learning_curve", "mean_maps", "score_against_lead", "snapshot"]
    )
    assert all(path.stat().st_size > 10_000 for path in done.root.glob("outputs/*/figures/*.png"))


def test_mlflow_holds_one_run_from_training_to_comparison(done: Project) -> None:
    (run,) = done.runs()
    assert run.info.status == "FINISHED"
    assert run.data.tags["stages"] == "compare evaluate train"
    assert run.data.params["model.widths"] == "[6, 8]"
    assert len(run.data.tags["git.commit"]) == 40
    assert run.data.tags["git.diff_sha256"] == "clean", "what the pipeline itself writes is no change of its inputs"
    assert {data.dataset.name for data in run.inputs.dataset_inputs} == {"train", "validation", "test"}
    assert "Emulator" in run.data.tags["mlflow.note.content"]
    history = done.client().get_metric_history(run.info.run_id, "train/mean/loss")
    assert [metric.step for metric in history] == [1, 2]
    leads = done.client().get_metric_history(run.info.run_id, "forecast/nrmse/all")
    assert [metric.step for metric in leads] == [5, 10, 15, 20, 25, 30]
    figures = {file.path for file in done.client().list_artifacts(run.info.run_id, "figures")}
    assert {"figures/learning_curve.png", "figures/drift.png", "figures/score_against_lead.png"} <= figures


def test_report_says_scores_figures_and_how_to_see_runs(done: Project) -> None:
    report = done.run("ocean-emulators", "report")
    for part in ("Emulator", "Damped anomaly persistence", "outputs/comparison/figures", "mlflow ui", str(done.root)):
        assert part in report
    report = done.run(
        "ocean-emulators", "report", MLFLOW_TRACKING_URI="https://me:S3CRET@mlflow.example.org/?token=S3CRET"
    )
    assert "Runs: at https://***@mlflow.example.org/?token=***" in report
    assert "S3CRET" not in report


@pytest.mark.parametrize("setting", ["width=4", "widths=[4,6]"])
def test_another_width_reuses_data_and_statistics(project: Project, setting: str) -> None:
    before = json.loads((project.root / "outputs/evaluation/scores.json").read_text())
    output = project.run("dvc", "exp", "run", "-S", f"model.{setting}")
    assert stages_run(output) == ["train", "evaluate", "compare"]
    assert json.loads((project.root / "outputs/evaluation/scores.json").read_text()) != before
    (run,) = project.runs()
    name, _, value = setting.partition("=")
    assert run.data.params[f"model.{name}"] == value.replace(",", ", ")
    assert run.info.status == "FINISHED"
    changed, _, dvc = run.info.run_name.partition(" · ")
    assert changed == setting
    assert dvc == run.data.tags["dvc.experiment"]
    assert f"model.{name}" in project.run("dvc", "params", "diff")
    assert "forecast.nrmse.all.10d" in project.run("dvc", "metrics", "diff")
    assert dvc in project.run("dvc", "exp", "show", "--csv")
    assert "score_against_lead" in "".join(str(p) for p in _plots(project))


def _plots(project: Project) -> list[Any]:
    project.run("dvc", "plots", "diff", "--out", "plots")
    page = (project.root / "plots" / "index.html").read_text()
    assert "train/mean/loss" in page
    return list((project.root / "plots").rglob("*.png"))


def test_another_training_period_runs_everything(project: Project) -> None:
    output = project.run("dvc", "exp", "run", "-S", "data.periods.train.end=2001-12-01")
    assert stages_run(output) == ALL


def test_another_normalisation_reuses_the_prepared_data(project: Project) -> None:
    output = project.run("dvc", "exp", "run", "-S", "data.statistics.period=all")
    assert stages_run(output) == ["stats", "train", "evaluate", "compare"]


def test_a_coarser_resolution_is_prepared_beside_the_first(project: Project) -> None:
    before = (project.root / "outputs/evaluation/scores.csv").read_text()
    project.run("dvc", "exp", "run", "-S", "data.coarsen=[1,2]")
    assert (project.root / "outputs/evaluation/scores.csv").read_text() == before
    for folder in ("data/prepared", "data/stats"):
        assert sorted(path.name for path in (project.root / folder).glob("*.zarr")) == ["x1.zarr", "x2.zarr"]
    plan = project.run("python", "-m", "ocean_emulators.cli", "check")
    assert "2 levels, 16 × 32" in plan
    assert "8 × 16" in plan


def test_a_coarse_resolution_alone_goes_through_it_all(project: Project) -> None:
    assert stages_run(project.run("dvc", "exp", "run", "-S", "data.coarsen=[2]", "-S", "model.dilation=[1,1]")) == ALL
    predictions = xr.open_zarr(project.root / "outputs/evaluation/predictions.zarr")
    assert predictions["ocean_fraction"].dims == ("lev", "lat", "lon")
    assert 0 < float(predictions["ocean_fraction"].mean()) < 1


def test_two_resolutions_are_trained_on_and_each_can_be_rolled_out(project: Project) -> None:
    both = ["-S", "data.coarsen=[1,2]", "-S", "train.passes=[1,0.5]", "-S", "model.dilation=[1,1]"]
    assert stages_run(project.run("dvc", "exp", "run", *both)) == ALL
    history = project.root / "outputs/train/history.csv"
    assert {"train/x2/mean/loss", "val/x2/mean/loss"} <= set(history.read_text().partition("\n")[0].split(","))
    output = project.run("dvc", "exp", "run", "-S", "evaluation.grid=x2")
    assert stages_run(output) == ["evaluate", "compare"]
    predictions = xr.open_zarr(project.root / "outputs/evaluation/predictions.zarr")
    assert predictions.sizes["lat"] == 8
    assert "Emulator" in project.run("python", "-m", "ocean_emulators.cli", "report")


def test_another_evaluation_setting_runs_evaluation_and_comparison(project: Project) -> None:
    output = project.run("dvc", "exp", "run", "-S", "evaluation.lead_days=20")
    assert stages_run(output) == ["evaluate", "compare"]
    (run,) = project.runs()
    history = project.client().get_metric_history(run.info.run_id, "train/mean/loss")
    assert [metric.step for metric in history] == [1, 2], "the new run shows the training that it reuses"
    assert run.data.tags["stages"] == "compare evaluate train"
    assert run.info.status == "FINISHED"


def test_another_comparison_setting_runs_the_comparison(project: Project) -> None:
    assert stages_run(project.run("dvc", "exp", "run", "-S", "comparison.seed=3")) == ["compare"]


def test_temporary_and_queued_experiments_and_a_sweep_share_one_store(project: Project) -> None:
    project.run("dvc", "exp", "run", "--temp", "-S", "train.seed=2")
    project.run("dvc", "exp", "run", "--queue", "-S", "model.width=4,5", "-S", "train.rollout_steps=[1]")
    assert project.work_off_queue().count("Success") == 2
    runs = project.runs()
    assert sorted(run.data.params["model.width"] for run in runs) == ["4", "5", "None"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len({run.data.tags["dvc.experiment"] for run in runs}) == 3
    assert not list((project.root / ".dvc" / "tmp").rglob("mlflow.db"))
