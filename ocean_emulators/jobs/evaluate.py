"""Evaluation: forecasts from starts spread over the test period, and one free run over all of it, scored while they run."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from ocean_emulators.aggregator.inference import InferenceEvaluatorAggregator
from ocean_emulators.aggregator.metrics import channels_of, mean_over_starts
from ocean_emulators.aggregator.sums import WeightedSums
from ocean_emulators.build import build_emulator
from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.eval.config import EvaluateSections
from ocean_emulators.eval.rollout import FiniteCheck, Sink, run_rollout
from ocean_emulators.eval.snapshots import Snapshots
from ocean_emulators.eval.tables import write_score_tables
from ocean_emulators.eval.writer import PredictionsWriter
from ocean_emulators.figures.base import EVALUATION_FIGURES, EvaluationInputs, FreeRun, draw_validation, save_figures
from ocean_emulators.forecasting.base import Climatology
from ocean_emulators.forecasting.emulator import Emulator
from ocean_emulators.jobs.base import Report, leaving_results
from ocean_emulators.jobs.contents import content_of, contents
from ocean_emulators.ocean.fields import channel
from ocean_emulators.ocean.regions import NINO34, REGIONS
from ocean_emulators.runtime import Runtime
from ocean_emulators.sealing import open_sealed, write_sealed
from ocean_emulators.train.checkpoints import Checkpoint
from ocean_emulators.workspace import EvaluationFiles, TrainingFiles, Workspace


@dataclass(frozen=True)
class EvaluateJob:
    """Rolls the emulator out and scores it; see `Job`."""

    sections: EvaluateSections
    workspace: Workspace
    runtime: Runtime
    folder: Path
    checkpoint: Path
    """what training has left beside it is shown, too"""

    @classmethod
    def of(
        cls, sections: EvaluateSections, workspace: Workspace, runtime: Runtime, checkpoint: Path | None = None
    ) -> "EvaluateJob":
        """The job of an experiment on the data that are prepared now, with a checkpoint, or that of the experiment."""
        path = checkpoint or workspace.training.checkpoint
        content = [*contents(workspace, sections.data, "test"), content_of(path, "train")]
        return cls(sections, workspace, runtime, workspace.scratch_of("evaluate", sections.dump(), *content), path)

    def run(self, report: Report) -> None:
        """See `Job`."""
        device = self.runtime.start()
        grid = PreparedGrid.open(self.workspace, self.sections.data, self.sections.grid, device)
        stepper = build_emulator(Checkpoint.load(self.checkpoint), grid, self.checkpoint)
        times = grid.store.indices(self.sections.data.periods.test, "test")
        rows = Rows(grid.store, grid.packing, times, "none")  # each is asked for a few times: memory stays as it is
        data = InferenceDataset(rows, "test", stepper.requirements)
        scoring = Scoring.of(grid, data)
        with leaving_results(self) as folder:
            files = EvaluationFiles(folder)
            emulator = Emulator(stepper, data)
            forecasts = score_forecasts(self.sections, emulator, scoring, files)
            free_run_sums, free_run = score_free_run(emulator, scoring, files)
            write_score_tables(forecasts, free_run_sums, grid.prognostic_std(), self.sections.evaluation, files)
            training = TrainingFiles(self.checkpoint.parent)
            history = pd.read_csv(training.history) if training.history.is_file() else pd.DataFrame()
            for draw in EVALUATION_FIGURES.values():
                save_figures(draw(EvaluationInputs(history, free_run)), files.figures)
            save_figures(draw_validation(read_maps(training)), files.figures)


def read_maps(files: TrainingFiles) -> dict[str, xr.Dataset]:
    """The maps that training has left of its last validation, by the name of the grid; none where nothing was learned."""
    stores = sorted(files.validation_maps.glob("*.zarr"))
    return {store.stem: open_sealed(store, "train").load() for store in stores}


@dataclass(frozen=True)
class Scoring:
    """What scores are taken with."""

    data: InferenceDataset
    climatology: Climatology
    sums: WeightedSums

    @classmethod
    def of(cls, grid: PreparedGrid, data: InferenceDataset) -> "Scoring":
        """For a prepared grid: over all regions and, for the index, the Nino3.4 box."""
        climatology = Climatology(grid.store, grid.statistics, grid.packing.n_prognostic_cells)
        regions = dict(REGIONS) | {NINO34.name: NINO34}
        return cls(data, climatology, WeightedSums(grid.packing, grid.store.grid, tuple(regions.values())))

    def aggregator(self, starts: list[int], steps: int) -> InferenceEvaluatorAggregator:
        """Of rollouts from some starts."""
        return InferenceEvaluatorAggregator(self.data, self.climatology, self.sums, starts, steps)


def score_forecasts(
    sections: EvaluateSections, emulator: Emulator, scoring: Scoring, files: EvaluationFiles
) -> xr.Dataset:
    """Forecasts from starts spread over the period; their sums, as they are written."""
    data, config = emulator.data, sections.evaluation
    steps = config.steps(data.rows.store.step_days)
    starts = data.starts(steps, config.start_every)
    aggregator = scoring.aggregator(starts, steps)
    check = FiniteCheck(data, starts, "evaluation.lead_days")
    run_rollout(emulator, starts, steps, [check, aggregator], config.batch_size, "forecasts")
    sums = aggregator.get_dataset().sel(region=list(REGIONS))
    write_sealed(sums, files.forecast_sums, zarr_format=2)
    return sums


def score_free_run(emulator: Emulator, scoring: Scoring, files: EvaluationFiles) -> tuple[xr.Dataset, FreeRun]:
    """From the first states of the period to its last: its sums, as they are written, and what is shown of it."""
    data, store = emulator.data, emulator.data.rows.store
    start, steps = data.times.start + emulator.stepper.requirements.past, data.longest_rollout()
    time = store.time[start + 1 : start + 1 + steps]
    aggregator = scoring.aggregator([start], steps)
    snapshots = Snapshots(data, start, {"middle": steps // 2 + 1, "end": steps})
    writer = PredictionsWriter(files.predictions, time, store.grid, data.rows.packing)
    check = FiniteCheck(data, [start], "data.periods.test")
    sinks: list[Sink] = [check, aggregator, snapshots, writer]
    run_rollout(emulator, [start], steps, sinks, title="free run")
    sums = aggregator.get_dataset()
    scored = sums.sel(region=list(REGIONS))
    write_sealed(scored, files.free_run_sums, zarr_format=2)
    by_time = sums.assign_coords(time=("lead", time)).swap_dims(lead="time")
    return scored, FreeRun(snapshots.kept, nino34_index(by_time), drift_of_temperature(by_time, store.grid.lev))


def nino34_index(sums: xr.Dataset) -> dict[str, xr.DataArray]:
    """Mean temperature of the uppermost level in the box, [time]; nothing where it is not predicted or there is no ocean."""
    names = channels_of("thetao", sums)
    if not names or not bool(sums["weight"].sel(region=NINO34.name, channel=names[0]) > 0):
        return {}
    mean = mean_over_starts(sums.sel(region=NINO34.name, channel=names[0]))
    return {"truth": mean["truth"], "prediction": mean["predicted"]}


def drift_of_temperature(sums: xr.Dataset, lev: np.ndarray) -> xr.DataArray | None:
    """Error of the global mean of temperature, [time, lev]; nothing where it is not predicted."""
    names = channels_of("thetao", sums)
    if not names:
        return None
    error = mean_over_starts(sums.sel(region="global", channel=names))["error"].rename(channel="lev")
    return error.assign_coords(lev=[lev[channel(name).mask_level] for name in names]).transpose("time", "lev")
