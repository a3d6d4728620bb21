"""The plan says what the work will be, and refuses what can't work."""

import re
from pathlib import Path

import pytest
import torch

from ocean_emulators.config.base import parse
from ocean_emulators.config.overrides import apply_overrides
from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.loading.train_data import Windows
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment
from ocean_emulators.models.base import OceanContext
from ocean_emulators.plan import make_plan
from ocean_emulators.testing.coded_ocean import write_om4
from tests import tiny


def changed(source: Path, *changes: str) -> Experiment:
    return parse(Experiment, apply_overrides(Experiment, tiny.experiment(source), list(changes)), "tiny")


TIMES = ["model.forcing_times=[0, 1]", "model.forcing_times=[]"]
PAIRS = ["model.input_states=2", "model.output_states=2", "model.forcing_times=[-1, 0]"]


@pytest.mark.parametrize("changes", [[TIMES[0]], [TIMES[1]], PAIRS, ["train.rollout_steps=[4]"]])
def test_the_plan_counts_what_the_data_give(
    source: Path, store: PackedStore, statistics: Statistics, changes: list[str]
) -> None:
    experiment = changed(source, *changes)
    plan, needs, periods = make_plan(experiment), experiment.model.requirements, experiment.data.periods
    calls = max(experiment.train.rollout_steps)
    packing = Packing.of(store, statistics)
    for name in ("train", "validation"):
        period = getattr(periods, name)
        rows = Rows(store, packing, store.indices(period, name), "none")
        assert plan.outlook.windows[name] == len(Windows(rows, name, needs, calls))
        assert plan.times[name] == len(store.indices(period, name))
    rows = Rows(store, packing, store.indices(periods.test, "test"), "none")
    data = InferenceDataset(rows, "test", needs)
    assert plan.outlook.windows["forecasts"] == len(data.starts(6, experiment.evaluation.start_every))
    assert plan.step_days == 5
    assert plan.outlook.shapes == {"x1": store.grid.shape}
    assert plan.outlook.wet_cells == {"x1": store.mask.sum()}


@pytest.mark.parametrize(
    "changes",
    [
        [TIMES[0]],
        [TIMES[1]],
        PAIRS,
        [*PAIRS, "data.periods.test.start=2002-07-06"],
    ],
)
def test_the_plan_knows_the_length_of_the_free_run(
    source: Path, store: PackedStore, statistics: Statistics, changes: list[str]
) -> None:
    experiment = changed(source, *changes)
    period = experiment.data.periods.test
    rows = Rows(store, Packing.of(store, statistics), store.indices(period, "test"), "none")
    data = InferenceDataset(rows, "test", experiment.model.requirements)
    assert make_plan(experiment).outlook.windows["free run steps"] == data.longest_rollout()


def test_the_plan_is_of_the_first_resolution_and_names_all(source: Path) -> None:
    plan = make_plan(changed(source, "data.coarsen=[2, 1]", "model.dilation=[1, 1]"))
    assert plan.outlook.shapes == {"x2": (8, 16), "x1": (16, 32)}
    assert plan.outlook.wet_cells["x2"] < plan.outlook.wet_cells["x1"] < 4 * plan.outlook.wet_cells["x2"]
    with pytest.raises(UserError, match=r"data.coarsen: 3 does not divide the grid of the source, \(16, 32\)"):
        make_plan(changed(source, "data.coarsen=[1, 3]"))


def test_the_plan_knows_the_model(source: Path, experiment: Experiment) -> None:
    plan = make_plan(experiment)
    context = OceanContext(9, 3, torch.ones(9, 16, 32, dtype=torch.bool), torch.ones(16), torch.ones(32), torch.ones(9))
    model = experiment.model.build(context)
    assert plan.cost.n_parameters == sum(p.numel() for p in model.parameters())
    assert (plan.cost.in_channels, plan.cost.out_channels) == (9 + 2 * 3, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("evaluation.lead_days=200", r"evaluation.lead_days: 200 days need 41 times, but data.periods.test holds"),
        (
            "train.rollout_steps=[1, 50]",
            r"data.periods.validation: holds 36 times, but a rollout of 50 model step.* needs 51",
        ),
        (
            "evaluation.lead_days=32",
            r"evaluation.lead_days: found 32, but .* every 5 days; give a multiple of that, such as 30 or 35",
        ),
        ("evaluation.lead_days=3 evaluation.report_days=[1]", r"evaluation.lead_days: found 3, .* such as 5$"),
        ("train.passes=[0.0001]", r"train.passes: 0.0001 of \d+ windows is none; .* at least 0.0\d+"),
        ("data.coarsen=[1,2] train.passes=[1,0.001]", r"train.passes: 0.001 of \d+ windows is none"),
        (
            "data.periods.validation.end=2002-02-30",
            r"data.periods.validation.end: 2002-02-30 is no day of the calendar of the source, which is noleap",
        ),
        ("evaluation.report_days=[10, 12]", r"evaluation.report_days: found 12, but .* every 5 days"),
        ("model.dilation=[1, 40]", r"model.dilation: \[1, 40\] needs"),
        ("data.levels=[0, 5]", r"data.levels: level 5"),
        ("train.passes=[1, 1]", r"train.passes: \[1.0, 1.0\] are more than the grids of data.coarsen, \[1\]"),
        ("train.passes=[0]", r"train.passes: found \[0.0\]: the first resolution"),
        (
            "data.coarsen=[1,2] evaluation.grid=x2 model.positional_channels=2",
            "inputs are learned for .* one grid, but",
        ),
        ("evaluation.grid=x2", r"evaluation.grid: found 'x2', which data.coarsen does not prepare .there are: x1."),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(source: Path, change: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_plan(changed(source, *re.split(r" (?=\w+\.)", change)))


def test_the_plan_counts_the_long_steps_of_leap_years(tmp_path: Path) -> None:
    write_om4(tmp_path / "om4.zarr", (16, 32), 73 * 4, 2, chunks=(73, 16, 32))
    periods = {
        "train": {"start": "1958-01-01", "end": "1960-06-30"},
        "validation": {"start": "1960-07-01", "end": "1961-03-30"},
        "test": {"start": "1961-04-01", "end": "1961-12-31"},
    }
    tree = tiny.experiment(tmp_path / "om4.zarr")
    tree["data"]["periods"] = periods
    plan = make_plan(parse(Experiment, tree, "tiny"))
    assert plan.times == {"train": 2 * 73 + 36, "validation": 37 + 18, "test": 55}
    assert plan.gaps == {"train": 0, "validation": 1, "test": 0}
    assert plan.step_days == 5


LARGE = ["model.widths=[65536, 65536]", "model.expansion=100"]


def test_a_model_that_is_larger_than_the_memory_is_refused(source: Path) -> None:
    too_large = (
        r"model: this samudra has [\d,]+ parameters, which take [\d,.]+ GiB .* there are .* GiB; make it smaller"
    )
    with pytest.raises(UserError, match=too_large):
        make_plan(changed(source, *LARGE))
    experiment = changed(source)
    needed = make_plan(experiment).cost.weight_bytes
    assert make_plan(experiment, memory_bytes=needed)
    with pytest.raises(UserError, match=r"model: this samudra has"):
        make_plan(experiment, memory_bytes=needed - 1)
