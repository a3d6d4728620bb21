"""Stage `compare`: the emulator beside the baselines."""

from ocean_emulators.eval.config import CompareSections
from ocean_emulators.jobs.compare import CompareJob
from ocean_emulators.runtime import Runtime
from ocean_emulators.stages.base import Launch, have_done
from ocean_emulators.workspace import Workspace


def main(sections: CompareSections, workspace: Workspace, runtime: Runtime, launch: Launch) -> None:
    """Have the job done, and put its results into `outputs/comparison`."""
    job = CompareJob.of(sections, workspace, runtime)
    have_done(job, "compare", workspace.comparison.folder, launch)
