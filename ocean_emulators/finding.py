"""Finds the record of an experiment by what people call it: here, or in MLflow where its project is gone."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ocean_emulators.errors import UserError, brief, mask
from ocean_emulators.tracking.changes import DVC_NAME
from ocean_emulators.tracking.delivery import copies_of
from ocean_emulators.tracking.events import Metrics
from ocean_emulators.tracking.mlflow import VARIABLE, MlflowTracker
from ocean_emulators.tracking.record import FOLDER, About, EventReader, RunFolder, runs_in
from ocean_emulators.train.parts import START_LOSS

OUTPUT = "output."
"""What tags of outputs begin with."""
_MLFLOW_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Found:
    """A record, as it is read."""

    about: About
    tags: dict[str, str]
    """the last values"""
    files: Path
    """copies of what it holds, while it is looked at"""
    folder: RunFolder | None
    """where it lies, if it is here"""
    start: dict[int, float]
    """loss of the first optimiser steps, by step"""

    @property
    def outputs(self) -> dict[str, str]:
        """Digests of what its stages have left, by `stage/name`."""
        return {name.removeprefix(OUTPUT): value for name, value in self.tags.items() if name.startswith(OUTPUT)}

    @property
    def data(self) -> dict[str, str]:
        """Digests of its prepared data and statistics, by name."""
        return {name: value for name, value in self.tags.items() if name.startswith("data.")}

    def text(self, path: str) -> str:
        """A file of the record, such as `code/changes.diff`; empty if it has none."""
        file = self.files / path
        return file.read_text(errors="surrogateescape") if file.is_file() else ""


def is_called(run: RunFolder, about: About, name: str) -> bool:
    """Whether a record is meant by a name: first letters of its key, a name of the experiment or of DVC's, an MLflow id."""
    known = {about.name, about.id, about.tags.get(DVC_NAME), *copies_of(run)}
    if not name or name in known or about.key.startswith(name):
        return bool(name)
    return name == run.contents().tags.get(DVC_NAME)  # where it began before DVC ran it


@contextmanager
def found_run(name: str, home: Path) -> Iterator[Found]:
    """The record that is called so, while a block looks at it: of the project `home`, the newest, or one in MLflow.

    Raises
    ------
    UserError
        If there is none, or it is in MLflow and can't be read.
    """
    for run in runs_in(home):
        about = run.about()
        if about and is_called(run, about, name):
            yield _here(run, about)
            return
    if not _MLFLOW_ID.fullmatch(name):
        raise UserError(
            f"no run {name!r} in {home / FOLDER}; `ocean-emulators runs` lists those that are there, and the id of a run in "
            f"MLflow ({VARIABLE}) will do"
        )
    with TemporaryDirectory(prefix="run-") as folder:
        yield _in_mlflow(name, MlflowTracker(home), Path(folder))


def _here(run: RunFolder, about: About) -> Found:
    start: dict[int, float] = {}
    with EventReader(run) as reader:
        for event in reader.rest():
            if isinstance(event.what, Metrics) and START_LOSS in event.what.values:
                start[event.what.step] = event.what.values[START_LOSS]
    return Found(about, about.tags | run.contents().tags, run.files, run, start)


def _in_mlflow(run_id: str, tracker: MlflowTracker, folder: Path) -> Found:
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        client = tracker.client()
        run = client.get_run(run_id)
        for path in ("config", "code", "environment"):
            if client.list_artifacts(run_id, path):
                client.download_artifacts(run_id, path, str(folder))
        file = folder / "config" / "experiment.json"
        config = json.loads(file.read_text()) if file.is_file() else {}
        history = client.get_metric_history(run_id, START_LOSS)
        name = client.get_experiment(run.info.experiment_id).name
    except Exception as error:  # of whatever store and connection
        raise UserError(
            f"run {run_id}: can't be read from MLflow at {mask(tracker.address)}: {mask(brief(error))}; {VARIABLE} names the "
            "server or database that holds it"
        ) from error
    tags = dict(run.data.tags)
    if not config or "experiment.key" not in tags:
        raise UserError(f"run {run_id} in MLflow is none of an experiment of this project")
    about = About(tags.get("record.id", run_id), tags["experiment.key"], name, config, tags, run.info.start_time)
    return Found(about, tags, folder, None, {metric.step: metric.value for metric in history})
