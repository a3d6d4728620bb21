"""Stages: what they read, what they leave, and that a job's result is of what was submitted."""

import pickle
from typing import Any

import pytest
import torch
import yaml

from ocean_emulators.config.base import Config
from ocean_emulators.datasets.store.periods import PERIODS, period_path
from ocean_emulators.errors import UserError
from ocean_emulators.jobs.base import Job, results_of
from ocean_emulators.sealing import open_sealed, write_sealed
from ocean_emulators.workspace import Workspace
from tests import tiny
from tests.imports import ROOT
from tests.pipeline import STAGES, configure, do_here, run_all, run_stage
from tests.reads import recorded_reads


def files(workspace: Workspace) -> dict[str, bytes]:
    """All results, by their names."""
    places = (workspace.prepared, workspace.statistics, workspace.root / "outputs")
    found = (path for place in places for path in place.rglob("*") if path.is_file())
    return {path.relative_to(workspace.root).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_only_settings_that_dvc_knows(workspace: Workspace, stage: str) -> None:
    """Else a change of one would not run the stage again."""
    read: set[str] = set()

    def launch(job: Job) -> None:
        sections: Any = job.sections
        assert isinstance(sections, Config)
        with recorded_reads(sections) as keys:
            do_here(job)
        read.update(keys)

    run_stage(workspace, stage, launch)
    listed = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["params"]
    assert read, "something is read"
    if stage == "prepare":
        read.remove("data")  # as a whole, but for statistics: that DVC knows the rest is held by another test
    assert not [key for key in read if not any(key == p or key.startswith(f"{p}.") for p in listed)]


def test_stages_leave_the_same_again_and_nothing_beside(workspace: Workspace) -> None:
    before = files(workspace)
    run_all(workspace)
    after = files(workspace)
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []
    assert not [path for path in workspace.scratch.iterdir() if path.is_dir()]
    assert not list(workspace.root.rglob("*.partial"))


def test_a_job_is_of_what_was_submitted(workspace: Workspace) -> None:
    """It waits in a queue while `params.yaml` is edited, and runs from what was pickled with it."""
    expected = files(workspace)
    longer = tiny.experiment(workspace.root / "tiny.zarr", epochs=3)
    jobs: list[Job] = []

    def queue(job: Job) -> None:
        waiting = pickle.dumps(job)
        configure(workspace, longer)
        jobs.append(pickle.loads(waiting))
        do_here(jobs[-1])

    with pytest.raises(
        UserError, match=r"params.yaml: train was edited while stage train ran, so its result is not put"
    ):
        run_stage(workspace, "train", queue)
    (job,) = jobs
    left = results_of(job)
    assert (left / "history.csv").read_bytes() == expected["outputs/train/history.csv"]
    assert files(workspace)["outputs/train/history.csv"] == expected["outputs/train/history.csv"], "not touched"

    configure(workspace, tiny.experiment(workspace.root / "tiny.zarr"))

    def not_again(job: Job) -> None:
        assert results_of(job) == left
        assert left.is_dir()

    run_stage(workspace, "train", not_again)
    assert not left.exists()
    assert files(workspace) == expected


@pytest.mark.parametrize("stage", STAGES)
def test_an_edit_of_another_section_is_no_edit(workspace: Workspace, stage: str) -> None:
    def rename(job: Job) -> None:
        configure(workspace, {**tiny.experiment(workspace.root / "tiny.zarr"), "name": "other"})
        do_here(job)

    run_stage(workspace, stage, rename)


def test_a_params_file_that_became_unreadable_is_an_edit(workspace: Workspace) -> None:
    def destroy(job: Job) -> None:
        workspace.params.write_text("{")
        do_here(job)

    with pytest.raises(UserError, match=r"params\.yaml was edited while stage compare ran"):
        run_stage(workspace, "compare", destroy)


@pytest.mark.parametrize("name", PERIODS)
def test_statistics_without_prepared_periods_say_what_makes_them(workspace: Workspace, name: str) -> None:
    period_path(workspace.prepared, name).unlink()
    with pytest.raises(UserError, match=rf"periods/{name}\.json: not here; `dvc repro prepare` makes it"):
        run_stage(workspace, "stats")


def test_a_checkpoint_of_other_data_is_refused(workspace: Workspace) -> None:
    """Its fields in another order, other statistics, other content: each with a message that says which."""
    checkpoint = workspace.training.checkpoint
    content = torch.load(checkpoint, weights_only=True)
    swapped = content["channels"][:]
    swapped[0], swapped[1] = swapped[1], swapped[0]
    for change, message in (
        ({"channels": swapped}, "trained on other channels than the data's, or in another order"),
        ({"mean": content["mean"] + 1}, "trained on thetao_0 with a mean of"),
        ({"std": content["std"] * 2}, "trained on thetao_0 with a std of"),
        ({"data_fingerprint": "another"}, "trained on other data than the prepared ones"),
    ):
        torch.save(content | change, checkpoint)
        with pytest.raises(UserError, match=message):
            run_stage(workspace, "evaluate")


def test_a_training_that_the_memory_cannot_hold_is_refused_before_it_begins(workspace: Workspace) -> None:
    tree = tiny.experiment(workspace.root / "tiny.zarr")
    tree["model"] |= {"widths": [65_536, 65_536], "expansion": 100}
    configure(workspace, tree)
    with pytest.raises(UserError, match=r"model: this samudra has .* parameters, which take .* GiB .* make it smaller"):
        run_stage(workspace, "train")


@pytest.mark.parametrize(("growth", "shorten"), [(1e12, "evaluation.lead_days"), (1e4, "data.periods.test")])
def test_a_rollout_that_blows_up_is_told_with_its_own_way_out(
    workspace: Workspace, growth: float, shorten: str
) -> None:
    """Within the 6 steps of a forecast, or later in the free run."""
    checkpoint = workspace.training.checkpoint
    content = torch.load(checkpoint, weights_only=True)
    content["averaged_model"]["decoder.weight"] *= growth
    torch.save(content, checkpoint)
    with pytest.raises(UserError, match=rf"forecast from 2002-.* is not finite after .* or shorten {shorten}$"):
        run_stage(workspace, "evaluate")


@pytest.mark.parametrize("what", ["region", "channel", "start", "weight"])
def test_forecasts_of_other_data_are_not_compared(workspace: Workspace, what: str) -> None:
    path = workspace.evaluation.forecast_sums
    sums = open_sealed(path, "evaluate").load()
    match what:
        case "start":
            sums["start"] = ["1950" + str(start)[4:] for start in sums["start"].values]
        case "weight":
            sums["weight"] = 2 * sums["weight"]
        case _:
            sums = sums.isel({what: slice(1, None)})
    write_sealed(sums.drop_encoding(), path, zarr_format=2)
    with pytest.raises(
        UserError, match=r"forecast_sums.zarr: not of the prepared data: .* differ.*`dvc repro evaluate`"
    ):
        run_stage(workspace, "compare")
