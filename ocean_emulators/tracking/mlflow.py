"""Copies of records in MLflow: a run for each."""

import importlib.metadata
import json
import logging
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
from ocean_emulators.tracking.events import Begin, End, Event, File, Metrics, Outcome, Tags, Text
from ocean_emulators.tracking.mlflow_database import move_artifacts, require_database
from ocean_emulators.tracking.record import About

VARIABLE = "MLFLOW_TRACKING_URI"
_STAGES, _RECORD = "stages", "record.id"
# The pages open with what trainings need (curves, comparisons) instead of what language models need.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
_STATUS: dict[Outcome, str] = {"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED", "killed": "KILLED"}
_MOST_METRICS, _MOST_PARAMS = 1000, 100
"""in one call, as MLflow limits them"""
_SCHEMES = {"http", "https", "postgresql", "mysql", "mssql", "sqlite", "databricks", "databricks-uc", "uc"}
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


def _make_store(home: Path) -> None:
    """A project's own database, whole or not at all: its making takes seconds, and may be cut short by the end of the work."""
    from mlflow import MlflowClient

    building = _database(home).with_name(f"{_database(home).name}{PARTIAL}")
    building.unlink(missing_ok=True)
    MlflowClient(_uri(building)).search_experiments(max_results=1)
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
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient  # takes seconds: only where it is used

        for name in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.WARNING)
        return MlflowClient(self.address)

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
        return MlflowCopy(client, run_id, about, files)

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

    def __init__(self, client: Any, run_id: str, about: About, files: Path) -> None:
        self.id, self._client, self._about, self._files = run_id, client, about, files

    def take(self, events: Sequence[Event], first: int) -> None:
        """See `Copy`: numbers bring their own time, by which MLflow knows those that it has; all else is put in its place."""
        if first == 0:
            _furnish(self._client, self.id, self._about)
        metrics: list[tuple[str, float, int, int]] = []
        for event in events:
            match event.what:
                case Metrics(values, step):
                    metrics += [(name, value, event.at, step) for name, value in values.items()]
                case other:
                    self._put(other, event.at)
        self._log(metrics)

    def close(self) -> None:
        """See `Copy`."""

    def _log(self, metrics: list[tuple[str, float, int, int]]) -> None:
        from mlflow.entities import Metric

        for start in range(0, len(metrics), _MOST_METRICS):
            batch = [Metric(*metric) for metric in metrics[start : start + _MOST_METRICS]]
            self._client.log_batch(self.id, metrics=batch)

    def _put(self, what: Begin | End | File | Text | Tags, at: int) -> None:
        match what:
            case Begin():
                self._client.update_run(self.id, status="RUNNING")
            case End(stage, outcome):
                if outcome == "done":
                    done = set(self._client.get_run(self.id).data.tags.get(_STAGES, "").split())
                    self._client.set_tag(self.id, _STAGES, " ".join(sorted(done | {stage})))
                self._client.set_terminated(self.id, _STATUS[outcome], at)
            case File(path):
                file = self._files / path
                if file.is_file():
                    self._client.log_artifact(self.id, str(file), path.rpartition("/")[0])
            case Text(text):
                self._client.set_tag(self.id, "mlflow.note.content", text)
            case Tags(tags):
                for name, value in tags.items():
                    self._client.set_tag(self.id, name, value)
                if tags.get(_DVC_NAME, "none") != "none":  # it began before DVC ran that
                    self._client.update_run(self.id, name=tags[_DVC_NAME])


_DVC_NAME = "dvc.experiment"


def _experiment_of(client: Any, name: str, artifacts: str | None) -> str:
    """The identifier of the experiment, which is created if there is none."""
    from mlflow import MlflowException

    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            return str(client.create_experiment(name, artifacts, tags=_EXPERIMENT_TAGS))
        except MlflowException:
            known = client.get_experiment_by_name(name)
            if known is None:  # else another process was faster
                raise
    if known.lifecycle_stage == "deleted":
        raise UserError(
            f"name: the experiment {name!r} was deleted in MLflow; bring it back by `mlflow experiments restore "
            f"--experiment-id {known.experiment_id}`, or give the experiment another name"
        )
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
    dvc, commit = about.tags.get(_DVC_NAME, "none"), about.tags.get("git.commit", "none")
    shown = {"mlflow.source.name": "dvc.yaml", "mlflow.source.git.commit": commit, _RECORD: about.id}
    name = dvc if dvc != "none" else f"{about.name}-{about.key[:8]}"
    run = client.create_run(experiment, start_time=about.begun, tags=about.tags | shown, run_name=name)
    return str(run.info.run_id)


def _furnish(client: Any, run_id: str, about: About) -> None:
    """Params, data set and configuration of a new run."""
    from mlflow.entities import Dataset, DatasetInput, Param

    source = json.dumps({"uri": "data/prepared"})
    data = about.tags.get("data.fingerprint", "none")
    dataset = Dataset(name="prepared", digest=data[:36], source_type="local", source=source)
    client.log_inputs(run_id, [DatasetInput(dataset)])
    params = [Param(key, str(value)) for key, value in _flatten(about.config).items() if key]
    for start in range(0, len(params), _MOST_PARAMS):
        client.log_batch(run_id, params=params[start : start + _MOST_PARAMS])
    client.log_dict(run_id, about.config, "config/experiment.json")


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves
