"""Copies of records in MLflow: a run for each."""

import importlib.metadata
import json
import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy.engine import URL

from ocean_emulators.errors import UserError, mask
from ocean_emulators.files import PARTIAL
from ocean_emulators.tracking.base import TRACKERS
from ocean_emulators.tracking.changes import CHANGED, DVC_NAME, NONE, run_name
from ocean_emulators.tracking.events import Begin, End, Event, File, Metrics, Model, Outcome, Tags, Text
from ocean_emulators.tracking.mlflow_database import move_artifacts, require_database
from ocean_emulators.tracking.mlflow_models import CHECKPOINT, log_model, model_of, runs_with
from ocean_emulators.tracking.mlflow_page import colour, experiment_tags, links_of
from ocean_emulators.tracking.provenance import BEGAN_FROM
from ocean_emulators.tracking.record import About

VARIABLE = "MLFLOW_TRACKING_URI"
_STAGES, _RECORD = "stages", "record.id"
_STATUS: dict[Outcome, str] = {"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED", "killed": "KILLED"}
_MOST_METRICS, _MOST_PARAMS = 1000, 100
"""in one call, as MLflow limits them"""
_SCHEMES = {"http", "https", "postgresql", "mysql", "mssql", "sqlite", "databricks", "databricks-uc", "uc"}
_CONTEXTS = {"train": "training", "validation": "validation", "test": "testing"}
"""what periods of the data are for, in MLflow's words"""
_DIGEST_LETTERS = 12
"""of a data set, as the page shows them; MLflow takes 36 at most"""
_SCORES = ("score/", "free_run/")
"""beginnings of the names of metrics that a model has: one number each, as a model's page shows no steps"""
_MANY_RUNS = 200
"""of which nobody tells the colours apart"""
_PARENT = "mlflow.parentRunId"
_PLUGINS = "mlflow.tracking_store"
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # at every end of a run, into what the work prints
    # Whoever sends tries again anyway: a server that is gone should be known in seconds.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SQLALCHEMYSTORE_MAX_RETRIES": "0",
}


def own_store(home: Path) -> str:
    """URI of a project's own database, whatever characters the path of its folder `home` has.

    The driver is named because MLflow makes the folder of what begins with `sqlite:///`, which is another where it is quoted.
    """
    return _uri(_database(home))


def _database(home: Path) -> Path:
    return home / "mlflow.db"


def _uri(database: Path) -> str:
    return URL.create("sqlite+pysqlite", database=str(database)).render_as_string(hide_password=False)


def _client_of(uri: str) -> Any:
    """MLflow's client, for a store."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient  # takes seconds: only where it is used

    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(uri)


def _make_store(home: Path) -> None:
    """A project's own database, whole or not at all: its making takes seconds, and may be cut short by the end of the work."""
    building = _database(home).with_name(f"{_database(home).name}{PARTIAL}")
    building.unlink(missing_ok=True)
    _client_of(_uri(building)).search_experiments(max_results=1)
    building.replace(_database(home))


@TRACKERS.register("mlflow")
@dataclass(frozen=True)
class MlflowTracker:
    """The store at `MLFLOW_TRACKING_URI`, else `mlflow.db` and `mlruns/` in the project's folder `home`."""

    home: Path

    @property
    def address(self) -> str:
        """See `Tracker`."""
        return os.environ.get(VARIABLE) or own_store(self.home)

    @property
    def _artifacts(self) -> str | None:
        """URI of the folder for files, in the project's own store."""
        return None if os.environ.get(VARIABLE) else (self.home / "mlruns").as_uri()

    def require(self) -> None:
        """See `Tracker`."""
        uri = os.environ.get(VARIABLE)
        if not uri:
            require_database(_database(self.home))
            return
        scheme, separator, rest = uri.partition(":")
        kind = scheme.split("+")[0] if separator else "file"
        plugins = {entry.name for entry in importlib.metadata.entry_points(group=_PLUGINS)}
        if uri in _SCHEMES or kind in _SCHEMES | plugins:
            if kind == "sqlite" and rest.startswith("///") and not re.search(r"[?%]", rest):
                require_database(Path(rest.removeprefix("///")))
        elif kind != "file" or not os.environ.get("MLFLOW_ALLOW_FILE_STORE"):
            raise UserError(
                f"{VARIABLE}: found {mask(uri)!r}: MLflow keeps no runs there; give the address of a server, such as "
                "http://127.0.0.1:5000, or of a database, such as sqlite:////path/to/mlflow.db"
            )

    def client(self) -> Any:
        """MLflow's, for the store as it is."""
        return _client_of(self.address)

    def open(self, about: About, files: Path, known: str | None) -> "MlflowCopy":
        """See `Tracker`.

        Raises
        ------
        UserError
            If the experiment was deleted there.
        """
        with self._alone():
            client = self.client()
            experiment = _experiment_of(client, about.name, self._artifacts)
            run_id = _known(client, known, experiment) or _found(client, experiment, about)
            if run_id is None:
                run_id = _created(client, experiment, about)
        return MlflowCopy(client, run_id, about, files, self.home)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A store that several processes create at the same moment is left broken."""
        uri = os.environ.get(VARIABLE, "")
        if uri.startswith("http"):
            yield
            return
        lock = self.home / ".scratch" / "mlflow.lock"
        lock.parent.mkdir(exist_ok=True)
        with FileLock(lock):
            if not uri:
                if not _database(self.home).exists():
                    _make_store(self.home)
                move_artifacts(_database(self.home), str(self._artifacts))
            yield


class MlflowCopy:
    """A run; see `Copy`."""

    def __init__(self, client: Any, run_id: str, about: About, files: Path, home: Path) -> None:
        self.id, self._client, self._about, self._files, self._home = run_id, client, about, files, home
        self._model = model_of(self._run())

    def take(self, events: Sequence[Event], first: int) -> None:
        """See `Copy`: numbers bring their own time, by which MLflow knows those that it has; all else is put in its place."""
        if first == 0:
            _furnish(self._client, self.id, self._about)
        metrics: list[Any] = []
        for event in events:
            match event.what:
                case Metrics(values, step):
                    metrics += [self._metric(name, value, event.at, step) for name, value in values.items()]
                case other:
                    self._put(other, event.at)
        self._log(metrics)

    def close(self) -> None:
        """See `Copy`."""

    def _run(self) -> Any:
        return self._client.get_run(self.id)

    def _metric(self, name: str, value: float, at: int, step: int) -> Any:
        """A number of the run, and of its model where it is a score; MLflow would take 0 for a model's NaN."""
        from mlflow.entities import Metric

        if self._model is None or not name.startswith(_SCORES) or not math.isfinite(value):
            return Metric(name, value, at, step)
        digest = self._about.tags.get("data.test", NONE)[:_DIGEST_LETTERS]
        return Metric(name, value, at, step, self._model, "test", digest, self.id)

    def _log(self, metrics: list[Any]) -> None:
        for start in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self.id, metrics=metrics[start : start + _MOST_METRICS])

    def _put(self, what: Begin | End | File | Model | Text | Tags, at: int) -> None:
        match what:
            case Begin():
                self._client.update_run(self.id, status="RUNNING")
            case End(stage, outcome):
                if outcome == "done":
                    done = set(self._run().data.tags.get(_STAGES, "").split())
                    self._client.set_tag(self.id, _STAGES, " ".join(sorted(done | {stage})))
                self._client.set_terminated(self.id, _STATUS[outcome], at)
            case File(path):
                file = self._files / path
                if file.is_file():
                    self._client.log_artifact(self.id, str(file), path.rpartition("/")[0])
            case Model(_, sha256):
                log_model(self._client, self._run(), self._about, what, self._home)
                self._model = model_of(self._run())
                self._client.set_tag(self.id, CHECKPOINT, sha256)
                for child in runs_with(self._client, BEGAN_FROM, sha256):
                    self._client.set_tag(child.info.run_id, _PARENT, self.id)
            case Text(text):
                self._client.set_tag(self.id, "mlflow.note.content", f"{links_of(self._run())}\n\n{text}")
            case Tags(tags):
                for name, value in tags.items():
                    self._client.set_tag(self.id, name, value)
                if {DVC_NAME, CHANGED} & tags.keys():  # it began before DVC ran that
                    name = run_name(self._about.name, self._about.key, self._run().data.tags)
                    self._client.update_run(self.id, name=name)


def _experiment_of(client: Any, name: str, artifacts: str | None) -> str:
    """The identifier of the experiment, which is created if there is none."""
    from mlflow import MlflowException

    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            return str(client.create_experiment(name, artifacts, tags=experiment_tags()))
        except MlflowException:
            known = client.get_experiment_by_name(name)
            if known is None:  # else another process was faster
                raise
    if known.lifecycle_stage == "deleted":
        raise UserError(
            f"name: the experiment {name!r} was deleted in MLflow; bring it back by `mlflow experiments restore "
            f"--experiment-id {known.experiment_id}`, or give the experiment another name"
        )
    for tag, value in experiment_tags().items():
        if known.tags.get(tag) != value:
            client.set_experiment_tag(known.experiment_id, tag, value)
    return str(known.experiment_id)


def _known(client: Any, run_id: str | None, experiment: str) -> str | None:
    """The run of that identifier, unless it was deleted."""
    from mlflow import MlflowException

    if run_id is None:
        return None
    try:
        info = client.get_run(run_id).info
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run_id if info.lifecycle_stage == "active" and info.experiment_id == experiment else None


def _found(client: Any, experiment: str, about: About) -> str | None:
    """The run that a process created which could not note it any more."""
    runs = client.search_runs([experiment], f"tags.`{_RECORD}` = '{about.id}'", max_results=1)
    return runs[0].info.run_id if runs else None


def _created(client: Any, experiment: str, about: About) -> str:
    commit = about.tags.get("git.commit", NONE)
    shown = {"mlflow.source.name": "dvc.yaml", "mlflow.source.git.commit": commit, _RECORD: about.id}
    shown["mlflow.runColor"] = colour(len(client.search_runs([experiment], max_results=_MANY_RUNS)))
    parents = runs_with(client, CHECKPOINT, about.tags[BEGAN_FROM]) if BEGAN_FROM in about.tags else []
    if parents:
        shown[_PARENT] = parents[0].info.run_id
    name = run_name(about.name, about.key, about.tags)
    run = client.create_run(experiment, start_time=about.begun, tags=about.tags | shown, run_name=name)
    return str(run.info.run_id)


def _furnish(client: Any, run_id: str, about: About) -> None:
    """Params, data sets and configuration of a new run."""
    from mlflow.entities import Param

    client.log_inputs(run_id, _data_sets(about))
    params = [Param(key, str(value)) for key, value in _flatten(about.config).items() if key]
    for start in range(0, len(params), _MOST_PARAMS):
        client.log_batch(run_id, params=params[start : start + _MOST_PARAMS])
    client.log_dict(run_id, about.config, "config/experiment.json")


def _data_sets(about: About) -> list[Any]:
    """The periods of the prepared data."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data = about.config.get("data") or {}
    inputs = []
    for name, context in _CONTEXTS.items():
        digest = about.tags.get(f"data.{name}")
        if digest:
            source, period = json.dumps({"uri": data.get("source")}), json.dumps(data.get("periods", {}).get(name))
            dataset = Dataset(name, digest[:_DIGEST_LETTERS], "local", source, profile=period)
            inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", context)]))
    return inputs


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves
