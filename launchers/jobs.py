"""What is submitted: a job, and the record that is kept of it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from launchers.record import introduce, record_results
from ocean_emulators.datasets.statistics.stored import read_statistics
from ocean_emulators.datasets.store.packed_store import store_path
from ocean_emulators.distributed import Ranks
from ocean_emulators.experiment import Experiment
from ocean_emulators.jobs.base import Job, results_of
from ocean_emulators.programs import interrupt
from ocean_emulators.tracking import Provenance, digests_of_inputs, open_record


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
        inputs = digests_of_inputs(job.workspace, stage)
        return cls(stage, job, experiment, Provenance(experiment.dump(), statistics.fingerprint, inputs))

    def __call__(self) -> None:
        """Do the work unless it was done before, and record it; earlier stages, too, that this record does not hold.

        Of several ranks, the first keeps the record.
        """
        if not Ranks.from_environment().first:
            UntrackedJob(self.job)()
            return
        workspace = self.job.workspace
        with _told_to_stop(), open_record(self.experiment.name, self.provenance, workspace.home) as record:
            introduce(record, self.experiment)
            lock = workspace.root / "dvc.lock"
            if lock.is_file():
                record.log_file(lock, "code")
            for earlier, files in workspace.results_before(self.stage).items():
                if earlier not in record.stages_done():
                    with record.stage(earlier):
                        record_results(earlier, files, self.experiment, record)
            with record.stage(self.stage):
                if not results_of(self.job).is_dir():
                    self.job.run(record.log_metrics)
                record_results(self.stage, results_of(self.job), self.experiment, record)


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """Turn SIGTERM, which would end the process without a word in its record, into `Interrupted`."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@dataclass(frozen=True)
class UntrackedJob:
    """A job of which no record is kept."""

    job: Job

    def __call__(self) -> None:
        """Do the work unless it was done before."""
        if not results_of(self.job).is_dir():
            self.job.run(lambda metrics, step: None)
