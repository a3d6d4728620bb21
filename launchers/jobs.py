"""What is submitted: a job, and the record that is kept of it."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from launchers.record import record_results
from ocean_emulators.datasets.statistics.stored import read_statistics
from ocean_emulators.datasets.store.packed_store import store_path
from ocean_emulators.distributed import Ranks
from ocean_emulators.errors import UserError, brief
from ocean_emulators.experiment import Experiment
from ocean_emulators.jobs.base import Job, results_of
from ocean_emulators.tracking import Provenance, Tracker, open_tracker


@dataclass(frozen=True)
class TrackedJob:
    """A job that is not tracked by itself, and how it is: picklable, and called where it is to run."""

    stage: str
    job: Job
    experiment: Experiment
    provenance: Provenance

    @classmethod
    def of(cls, stage: str, job: Job, experiment: Experiment) -> "TrackedJob":
        """With the statistics that are at hand now as part of its identity."""
        statistics = read_statistics(store_path(job.workspace.statistics, experiment.data.grids[0]))
        return cls(stage, job, experiment, Provenance(experiment.dump(), statistics.fingerprint))

    def __call__(self) -> None:
        """Do the work unless it was done before, and record it; earlier stages, too, that this record does not hold.

        Of several ranks, the first keeps the record.
        """
        if not Ranks.from_environment().first:
            UntrackedJob(self.job)()
            return
        workspace = self.job.workspace
        with open_tracker(self.experiment.name, self.provenance, self.stage, workspace.home) as tracker:
            record = partial(record_results, experiment=self.experiment, tracker=tracker)
            for earlier, files in workspace.results_before(self.stage).items():
                if earlier not in tracker.stages_done():
                    record(earlier, files)
                    tracker.end(earlier, succeeded=True)  # so that no later stage records it again
                    tracker.begin(self.stage)
            report = LastingReport(tracker)
            if not results_of(self.job).is_dir():
                self.job.run(report)
            if self.stage != "train":  # which was recorded while it ran
                record(self.stage, results_of(self.job))
            elif report.failed:
                self._record_late(partial(record, self.stage, results_of(self.job)))

    def _record_late(self, record: Callable[[], None]) -> None:
        try:
            record()
        except Exception as error:
            raise UserError(
                f"the tracker still takes no numbers: {brief(error)}; stage {self.stage} is done and its results are kept: "
                "`dvc repro` records them once the tracker is back, or with OCEAN_EMULATORS_TRACKER=none does without"
            ) from error


class LastingReport:
    """A job's reports to a tracker, whose failure is no reason to end the job: it is told once, and tried on."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker, self.failed = tracker, False

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        """See `Report`."""
        try:
            self.tracker.log_metrics(metrics, step)
        except Exception as error:  # of whatever store and connection
            if not self.failed:
                print(
                    f"warning: the tracker took no numbers of step {step}: {brief(error)}; the work goes on, and what is "
                    "missing is recorded at its end",
                    file=sys.stderr,
                    flush=True,
                )
            self.failed = True


@dataclass(frozen=True)
class UntrackedJob:
    """A job of which no record is kept."""

    job: Job

    def __call__(self) -> None:
        """Do the work unless it was done before."""
        if not results_of(self.job).is_dir():
            self.job.run(lambda metrics, step: None)
