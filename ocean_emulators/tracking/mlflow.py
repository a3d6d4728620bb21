"""Records in MLflow: one run per experiment, found again by its key."""

import json
import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy.engine import URL

from ocean_emulators.errors import UserError, brief
from ocean_emulators.tracking.base import TRACKERS
from ocean_emulators.tracking.provenance import Provenance

_STAGES = "stages"
# The pages open with what trainings need (curves, comparisons) instead of what language models need.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
_NOT_ALLOWED = re.compile(r"[^\w\-. :/]")


def own_store(home: Path) -> str:
    """URI of a project's own database, whatever characters the path of its folder `home` has.

    The driver is named because MLflow makes the folder of what begins with `sqlite:///`, which is another where it is quoted.
    """
    return URL.create("sqlite+pysqlite", database=str(home / "mlflow.db")).render_as_string(hide_password=False)


@TRACKERS.register("mlflow")
class MlflowTracker:
    """A run in the store at `MLFLOW_TRACKING_URI`, else in `mlflow.db` and `mlruns/` at the project's root."""

    def __init__(self, experiment: str, provenance: Provenance, home: Path) -> None:
        """Open or create the run.

        Raises
        ------
        UserError
            If the store can't be used, or the experiment was deleted there.
        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient, MlflowException  # takes seconds: only where it is used

        logging.getLogger("alembic").setLevel(logging.WARNING)
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        artifacts = None if uri else (home / "mlruns").as_uri()
        lock = home / ".scratch" / "mlflow.lock"
        lock.parent.mkdir(exist_ok=True)
        try:
            # A store that several processes create at the same moment is left broken.
            with FileLock(lock):
                self.client = MlflowClient(uri or own_store(home))
                identifier = self._experiment(experiment, artifacts)
                known = self._find(identifier, provenance)
                self.run_id = known or self._create(identifier, experiment, provenance)
                if known:
                    self._name(provenance)
        except MlflowException as error:
            raise UserError(
                f"MLflow's store at {uri or own_store(home)} can't be used: {brief(error)}; mend it, name another in "
                "MLFLOW_TRACKING_URI, or keep no record (OCEAN_EMULATORS_TRACKER=none)"
            ) from error

    def _experiment(self, name: str, artifacts: str | None) -> str:
        """The identifier of the experiment, which is created if there is none."""
        known = self.client.get_experiment_by_name(name)
        if known is None:
            return str(self.client.create_experiment(name, artifacts, tags=_EXPERIMENT_TAGS))
        if known.lifecycle_stage == "deleted":
            raise UserError(
                f"name: the experiment {name!r} was deleted in MLflow; bring it back by `mlflow experiments restore "
                f"--experiment-id {known.experiment_id}`, or give the experiment another name"
            )
        return str(known.experiment_id)

    def _find(self, experiment_id: str, provenance: Provenance) -> str | None:
        runs = self.client.search_runs([experiment_id], f"tags.`experiment.key` = '{provenance.key}'", max_results=1)
        return runs[0].info.run_id if runs else None

    def _create(self, experiment_id: str, experiment: str, provenance: Provenance) -> str:
        from mlflow.entities import Dataset, DatasetInput

        tags = provenance.tags()
        shown = {"mlflow.source.name": "dvc.yaml", "mlflow.source.git.commit": tags["git.commit"]}
        name = tags["dvc.experiment"] if tags["dvc.experiment"] != "none" else f"{experiment}-{provenance.key[:8]}"
        run_id: str = self.client.create_run(experiment_id, tags=tags | shown, run_name=name).info.run_id
        source = json.dumps({"uri": "data/prepared"})
        dataset = Dataset(name="prepared", digest=provenance.data[:36], source_type="local", source=source)
        self.client.log_inputs(run_id, [DatasetInput(dataset)])
        for key, value in _flatten(provenance.config).items():
            self.client.log_param(run_id, key, value)
        self.client.log_dict(run_id, provenance.config, "config/experiment.json")
        return run_id

    def _name(self, provenance: Provenance) -> None:
        """Call a run by DVC's name of the experiment, where it began before DVC ran that."""
        tag, name = "dvc.experiment", provenance.tags()["dvc.experiment"]
        if name != "none" and self.client.get_run(self.run_id).data.tags.get(tag) == "none":
            self.client.set_tag(self.run_id, tag, name)
            self.client.update_run(self.run_id, name=name)

    def stages_done(self) -> set[str]:
        """See `Tracker`."""
        tags: dict[str, str] = self.client.get_run(self.run_id).data.tags
        return set(tags.get(_STAGES, "").split())

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """See `Tracker`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = [Metric(_NOT_ALLOWED.sub("_", name), float(value), now, step) for name, value in metrics.items()]
        self.client.log_batch(self.run_id, metrics=batch)

    def log_file(self, path: Path, folder: str) -> None:
        """See `Tracker`."""
        self.client.log_artifact(self.run_id, str(path), folder)

    def describe(self, text: str) -> None:
        """See `Tracker`."""
        self.client.set_tag(self.run_id, "mlflow.note.content", text)

    def begin(self, stage: str) -> None:
        """See `Tracker`."""
        self.client.update_run(self.run_id, status="RUNNING")

    def end(self, stage: str, succeeded: bool) -> None:
        """See `Tracker`."""
        if succeeded:
            self.client.set_tag(self.run_id, _STAGES, " ".join(sorted(self.stages_done() | {stage})))
        self.client.set_terminated(self.run_id, "FINISHED" if succeeded else "FAILED")


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves
