"""Stage `evaluate`: free rollouts over the test period, scored."""

from ocean_emulators.eval.config import EvaluateSections
from ocean_emulators.jobs.evaluate import EvaluateJob
from ocean_emulators.runtime import Runtime
from ocean_emulators.stages.base import Launch, have_done
from ocean_emulators.workspace import Workspace


def main(sections: EvaluateSections, workspace: Workspace, runtime: Runtime, launch: Launch) -> None:
    """Have the job done, and put its results into `outputs/evaluation`."""
    job = EvaluateJob.of(sections, workspace, runtime)
    have_done(job, "evaluate", workspace.evaluation.folder, launch)
