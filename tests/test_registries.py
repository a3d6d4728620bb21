"""Adding a part touches one file: here each is added in a few lines, and comes out at the end."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest
from torch import Tensor

from launchers.__main__ import main
from ocean_emulators.aggregator.metrics import METRICS, Metric
from ocean_emulators.aggregator.statistics import STATISTICS
from ocean_emulators.errors import UserError
from ocean_emulators.figures.base import EVALUATION_FIGURES, Drawn, EvaluationInputs, new_figure
from ocean_emulators.forecasting.base import BASELINES, Past
from ocean_emulators.ocean.regions import REGIONS, Region
from ocean_emulators.registry import Registry
from ocean_emulators.sealing import open_sealed
from ocean_emulators.tracking.base import TRACKERS, Copy
from ocean_emulators.tracking.events import Event, Metrics
from ocean_emulators.tracking.record import About
from ocean_emulators.workspace import PACKAGE, Workspace
from tests import tiny
from tests.pipeline import configure, new_workspace, run_stage


def test_a_baseline(workspace: Workspace) -> None:
    @BASELINES.register("nothing")
    class Nothing:
        """x(t + l) = 0."""

        def __init__(self, past: Past) -> None:
            self.past = past

        def forecast(self, starts: Sequence[int], steps: int) -> Iterator[Tensor]:
            yield from (0 * self.past.states(starts) for _ in range(steps))

    tree = tiny.experiment(workspace.root / "tiny.zarr")
    tree["comparison"]["baselines"] = ["persistence", "nothing"]
    try:
        configure(workspace, tree)
        run_stage(workspace, "compare")
    finally:
        BASELINES.remove("nothing")
    table = pd.read_csv(workspace.comparison.table)
    assert set(table["forecast"]) == {"emulator", "persistence", "nothing"}
    assert (table[table["forecast"] == "nothing"]["nrmse"] > 1).all()


def test_a_metric_of_a_statistic_of_its_own(workspace: Workspace) -> None:
    STATISTICS.register("absolute_error")(lambda sample: sample.error.abs())
    METRICS.register("mae")(Metric(lambda mean: mean["absolute_error"], in_units_of_field=True))
    try:
        run_stage(workspace, "evaluate")
    finally:
        STATISTICS.remove("absolute_error")
        METRICS.remove("mae")
    table = pd.read_csv(workspace.evaluation.scores).pivot_table(
        "value", ["rollout", "lead", "region", "channel"], "metric"
    )
    assert (table["mae"] > 0).all()
    assert (table["mae"] <= table["rmse"]).all()


def test_a_region(workspace: Workspace) -> None:
    REGIONS.register("east")(Region("east", -90, 90, 130, 180))
    try:
        run_stage(workspace, "evaluate")
    finally:
        REGIONS.remove("east")
    sums = open_sealed(workspace.evaluation.forecast_sums, "evaluate")
    assert (
        0
        < float(sums["weight"].sel(region="east", channel="zos"))
        < float(sums["weight"].sel(region="global", channel="zos"))
    )
    assert "east" in set(pd.read_csv(workspace.evaluation.scores)["region"])


def test_a_figure(workspace: Workspace) -> None:
    @EVALUATION_FIGURES.register("learning_rate")
    def draw(inputs: EvaluationInputs) -> Drawn:
        figure = new_figure(3, 2)
        figure.subplots().plot(inputs.history["train/learning_rate"])
        return {"learning_rate": figure}

    try:
        run_stage(workspace, "evaluate")
    finally:
        EVALUATION_FIGURES.remove("learning_rate")
    assert (workspace.evaluation.figures / "learning_rate.png").stat().st_size > 1000


FAMILY = '''
"""A model that is a scale for each channel."""

from typing import Literal

import torch

from ocean_emulators.models.base import FAMILIES, BaseModel, BaseModelConfig, OceanContext


@FAMILIES.register("scale")
class ScaleConfig(BaseModelConfig):
    type: Literal["scale"] = "scale"
    """model family"""
    start: float = 0.01
    """scale to begin with"""

    def build(self, *oceans: OceanContext) -> BaseModel:
        return Scale(self, *oceans)


class Scale(BaseModel):
    def __init__(self, config: ScaleConfig, *oceans: OceanContext) -> None:
        super().__init__(config, *oceans)
        self.scale = torch.nn.Parameter(torch.full((self.out_channels, 1, 1), config.start))

    def network(self, x: torch.Tensor, grid: str) -> torch.Tensor:
        return self.scale * x[:, : self.out_channels]
'''


def test_a_model_family(tmp_path: Path) -> None:
    """A file in the folder of models; the configuration knows it, and it is trained and compared."""
    shutil.copytree(PACKAGE, tmp_path / "code" / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PACKAGE.parent / "launchers", tmp_path / "code" / "launchers")
    (tmp_path / "code" / PACKAGE.name / "models" / "scale.py").write_text(FAMILY)
    workspace = new_workspace(tmp_path / "project")
    text = workspace.params.read_text()
    start, end = text.index("model:\n"), text.index("# how it is trained")
    workspace.params.write_text(f"{text[:start]}model: {{type: scale, start: 0.02}}\n{text[end:]}")
    program = "from launchers.__main__ import STAGES, main\nfor stage in STAGES: main(stage)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "code"), "DVC_ROOT": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=workspace.root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "epoch 2/2" in done.stdout
    assert workspace.comparison.table.is_file()


def test_a_tracker(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, float] = {}

    @TRACKERS.register("memory")
    class Memory:
        id = address = "memory"

        def __init__(self, home: Path) -> None:
            self.home = home

        def require(self) -> None:
            assert self.home == workspace.home

        def open(self, about: About, files: Path, known: str | None) -> Copy:
            return self

        def take(self, events: Sequence[Event], first: int) -> None:
            for event in events:
                logged.update(event.what.values if isinstance(event.what, Metrics) else {})

        def close(self) -> None:
            pass

    monkeypatch.setenv("OCEAN_EMULATORS_TRACKER", "memory")
    monkeypatch.chdir(workspace.root)
    try:
        main("compare")
    finally:
        TRACKERS.remove("memory")
    assert {"train/mean/loss", "forecast/nrmse/all", "ratio/persistence/all"} <= set(logged)


def test_what_is_not_registered_is_refused_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: Registry[int] = Registry("part")
    parts.register("first")(1)
    with pytest.raises(UserError, match=r"here: found 'frist': no such part; did you mean 'first'\?"):
        parts.get_or_refuse("frist", "here")
    with pytest.raises(AssertionError, match="'first' is registered twice"):
        parts.register("first")(2)
