"""What the stages have in common."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ocean_emulators.config.base import parse
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.errors import UserError
from ocean_emulators.files import copy, move
from ocean_emulators.jobs.base import Job, results_of
from ocean_emulators.stages.waiting import waiting_for
from ocean_emulators.workspace import look_up

Launch = Callable[[Job], None]
"""Has a job done somewhere, and returns when it is."""


def have_done(job: Job, stage: str, place: Path, launch: Launch, replace: bool = False) -> None:
    """Have a job done, and put its results into place.

    With `replace`, they are all that the place holds afterwards. The job's folder is removed, unless other stages wait for it.

    Raises
    ------
    UserError
        If a value that the stage depends on was edited while it ran: DVC would take the result for that of the new one.
    """
    with waiting_for(job) as waiting:
        launch(job)
        _require_same_params(job, stage)
        with waiting.alone() as alone:
            if replace:
                shutil.rmtree(place, ignore_errors=True)
            for result in results_of(job).iterdir():
                (move if alone else copy)(result, place / result.name)
            if alone:
                shutil.rmtree(job.folder, ignore_errors=True)


def _require_same_params(job: Job, stage: str) -> None:
    workspace, params = job.workspace, job.workspace.stage(stage)["params"]
    was = job.sections.dump()
    try:
        now = parse(type(job.sections), _named(load_yaml(workspace.params), was), str(workspace.params)).dump()
        changed = [key for key in params if look_up(now, key) != look_up(was, key)]
    except UserError:
        changed = [workspace.params.name]
    if changed:
        raise UserError(
            f"{workspace.params.name}: {', '.join(changed)} was edited while stage {stage} ran, so its result is not put into "
            "place: DVC would take it for that of the new value. Nothing is lost: `dvc repro` runs the stage with the new "
            "value, or takes this result where the old one stands again"
        )


def _named(tree: Any, names: Iterable[str]) -> Any:
    return {name: tree[name] for name in names if name in tree} if isinstance(tree, dict) else tree
