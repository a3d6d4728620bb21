"""Comparison: the emulator beside baselines that the same code scores from the same starts."""

import json
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

from ocean_emulators.aggregator.inference import InferenceEvaluatorAggregator
from ocean_emulators.aggregator.metrics import mean_over_starts, rmse
from ocean_emulators.aggregator.sums import WeightedSums
from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.datasets.requirements import DataRequirements
from ocean_emulators.errors import UserError
from ocean_emulators.eval.comparison import compare
from ocean_emulators.eval.config import CompareSections
from ocean_emulators.eval.rollout import run_rollout
from ocean_emulators.figures.base import COMPARISON_FIGURES, ComparisonInputs, save_figures
from ocean_emulators.files import write_text
from ocean_emulators.forecasting.base import BASELINES, EMULATOR, Climatology, Past
from ocean_emulators.jobs.base import Report, leaving_results
from ocean_emulators.jobs.contents import content_of, contents
from ocean_emulators.ocean.fields import channel
from ocean_emulators.ocean.regions import REGIONS
from ocean_emulators.runtime import Runtime
from ocean_emulators.sealing import MANIFEST, open_sealed, write_sealed
from ocean_emulators.workspace import ComparisonFiles, Workspace

_PROFILE_DAYS = 30


@dataclass(frozen=True)
class CompareJob:
    """Scores the baselines and sets the emulator beside them; see `Job`."""

    sections: CompareSections
    workspace: Workspace
    runtime: Runtime
    folder: Path

    @classmethod
    def of(cls, sections: CompareSections, workspace: Workspace, runtime: Runtime) -> "CompareJob":
        """The job of an experiment on the data that are prepared, and with the evaluation that is there, now."""
        content = [
            *contents(workspace, sections.data, "train", "test"),
            content_of(workspace.evaluation.forecast_sums / MANIFEST, "evaluate"),
        ]
        return cls(sections, workspace, runtime, workspace.scratch_of("compare", sections.dump(), *content))

    def run(self, report: Report) -> None:
        """See `Job`."""
        self.runtime.start()
        config = self.sections.evaluation
        grid = PreparedGrid.open(self.workspace, self.sections.data, self.sections.grid, torch.device("cpu"))
        emulator = open_sealed(self.workspace.evaluation.forecast_sums, "evaluate").load()
        with leaving_results(self) as folder:
            files = ComparisonFiles(folder)
            sums = {EMULATOR: emulator, **self._score_baselines(grid, emulator, files)}
            start_days = config.start_every * grid.store.step_days
            table = compare(sums, grid.prognostic_std(), self.sections.comparison, start_days)
            write_text(files.table, table.to_csv(index=False))
            leads = config.reported_leads(table["lead"].unique())
            write_text(files.summary, json.dumps(summarise(table, leads), indent=2) + "\n")
            lead = min(table["lead"].unique(), key=lambda days: abs(days - _PROFILE_DAYS))
            profiles = {name: profile(dataset, grid, lead) for name, dataset in sums.items()}
            inputs = ComparisonInputs(table, {n: p for n, p in profiles.items() if p is not None}, lead)
            for draw in COMPARISON_FIGURES.values():
                save_figures(draw(inputs), files.figures)

    def _score_baselines(
        self, grid: PreparedGrid, emulator: xr.Dataset, files: ComparisonFiles
    ) -> dict[str, xr.Dataset]:
        """From the starts of the emulator's forecasts; their sums.

        Raises
        ------
        UserError
            If the emulator's forecasts are not of the prepared data.
        """
        periods = self.sections.data.periods
        times = grid.store.indices(periods.test, "test")
        rows = Rows(grid.store, grid.packing, times, "none")  # each is asked for a few times: memory stays as it is
        data = InferenceDataset(rows, "test", DataRequirements(1, 1, ()))
        climatology = Climatology(grid.store, grid.statistics, grid.packing.n_prognostic_cells)
        past = Past(grid.store, climatology, grid.store.indices(periods.train, "train"))
        weighted = WeightedSums(grid.packing, grid.store.grid, tuple(REGIONS.values()))
        position = {str(time): index for index, time in enumerate(grid.store.time)}
        _require_same(emulator, weighted, position, self.workspace.evaluation.forecast_sums)
        starts, steps = [position[str(time)] for time in emulator["start"].values], emulator.sizes["lead"]
        scored: dict[str, xr.Dataset] = {}
        for name in self.sections.comparison.baselines:
            aggregator = InferenceEvaluatorAggregator(data, climatology, weighted, starts, steps)
            batch_size = self.sections.evaluation.batch_size
            run_rollout(BASELINES[name](past), starts, steps, [aggregator], batch_size, name)
            scored[name] = aggregator.get_dataset()
            write_sealed(scored[name], files.sums / f"{name}.zarr", zarr_format=2)
        return scored


def _require_same(emulator: xr.Dataset, sums: WeightedSums, times: Container[str], path: Path) -> None:
    """Refuse sums of the emulator's forecasts, from `path`, that were taken on other data than those at hand."""
    own = {"channels": [c.name for c in sums.channels], "regions": [r.name for r in sums.regions]}
    theirs = {"channels": list(emulator["channel"].values), "regions": list(emulator["region"].values)}
    different = [what for what in own if own[what] != theirs[what]]
    if not different and not np.allclose(emulator["weight"].values, sums.weight.cpu().numpy()):
        different = ["areas"]
    if not all(str(start) in times for start in emulator["start"].values):
        different.append("times")
    if different:
        raise UserError(
            f"{path}: not of the prepared data: the {' and '.join(different)} differ; `dvc repro evaluate` makes forecasts of "
            "these data"
        )


def summarise(table: pd.DataFrame, leads: list[float]) -> dict[str, dict[str, dict[str, float]]]:
    """{baseline: {variable: {"30d": emulator / baseline}}}, for `dvc metrics`; `table` is that of `compare`."""
    summary: dict[str, dict[str, dict[str, float]]] = {}
    reported = table[table["lead"].isin(leads) & (table["forecast"] != EMULATOR)]
    columns = reported[["forecast", "variable", "lead", "emulator_ratio"]]
    for forecast, variable, lead, ratio in columns.to_numpy().tolist():
        summary.setdefault(forecast, {}).setdefault(variable, {})[f"{lead:g}d"] = round(ratio, 6)
    return summary


def profile(sums: xr.Dataset, grid: PreparedGrid, lead: float) -> xr.DataArray | None:
    """Normalised RMSE [variable, lev] at one lead of the variables that have levels; None where none has."""
    nrmse = rmse(mean_over_starts(sums.sel(region="global"))) / grid.prognostic_std()
    parts = [channel(str(name)) for name in nrmse["channel"].values]
    if all(c.level is None for c in parts):
        return None
    index = pd.MultiIndex.from_tuples(
        [(c.field.name, grid.store.grid.lev[c.level]) for c in parts if c.level is not None], names=["variable", "lev"]
    )
    deep = nrmse.sel(lead=lead).isel(channel=[c.level is not None for c in parts]).drop_vars("channel")
    return deep.assign_coords(xr.Coordinates.from_pandas_multiindex(index, "channel")).unstack("channel")
