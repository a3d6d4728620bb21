"""Checkpoints as MLflow's logged models: weights and configuration in files that anyone can read, no pickle."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from ocean_emulators.tracking.events import Model
from ocean_emulators.tracking.record import About
from ocean_emulators.tracking.weights import find_checkpoint, write_weights

REGISTER = "OCEAN_EMULATORS_REGISTER"
"""environment variable: name in MLflow's registry that checkpoints become versions of"""
_NOTE = (
    "`model.safetensors` holds the averaged weights, which evaluation uses; `config.json` what builds the model, its channels, "
    "and the mean and standard deviations that they are normalised by."
)
_VERSIONS = "mlflow.modelVersions"
CHECKPOINT = "checkpoint.sha256"
"""tag of a run and of its model"""


def model_of(run: Any) -> str | None:
    """The model that a run has handed on last."""
    models = run.outputs.model_outputs if run.outputs else []
    return str(models[-1].model_id) if models else None


def runs_with(client: Any, tag: str, value: str) -> list[Any]:
    """The runs of a store that have a tag, whatever their experiment."""
    experiments = [one.experiment_id for one in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.`{tag}` = '{value}'"))


def log_model(client: Any, run: Any, about: About, model: Model, home: Path) -> None:
    """Make the model of a run's checkpoint, unless it is there; of a checkpoint that is not at hand it has no files."""
    from mlflow.entities import LoggedModelOutput

    known = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    made = next((one for one in known if one.tags.get(CHECKPOINT) == model.sha256), None)
    if made is None or str(made.status) != "READY":
        made = _made(client, run, about, model, home)
    if model_of(run) != made.model_id:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(made.model_id, step=0)])
    wanted = os.environ.get(REGISTER)
    if wanted:
        register(client, made.model_id, wanted)


def _made(client: Any, run: Any, about: About, model: Model, home: Path) -> Any:
    parts = {key: str(value) for key, value in (about.config.get("model") or {}).items()}
    checkpoint = find_checkpoint(model, home)
    tags = {
        "mlflow.note.content": _NOTE,
        CHECKPOINT: model.sha256,
        "experiment.key": about.key,
        "weights": "safetensors" if checkpoint else "not at hand",
    }
    name = f"{parts.get('type', 'model')}-{about.key[:8]}"
    made = client.create_logged_model(run.info.experiment_id, name, run.info.run_id, tags, parts, "emulator")
    if checkpoint:
        with tempfile.TemporaryDirectory() as folder:
            write_weights(checkpoint, Path(folder))
            client.log_model_artifacts(made.model_id, folder)
    return client.finalize_logged_model(made.model_id, "READY")


def register(client: Any, model_id: str, name: str) -> str:
    """Make a model the newest version of what the registry knows by that name, unless it is one; returns its number."""
    from mlflow import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"models:/{model_id}"
    known = [one for one in client.search_model_versions(f"name = '{name}'") if one.source == source]
    run_id = client.get_logged_model(model_id).source_run_id
    made = known[0] if known else client.create_model_version(name, source, run_id, model_id=model_id)
    _tell_of_version(client, model_id, made)
    return str(made.version)


def _tell_of_version(client: Any, model_id: str, version: Any) -> None:
    """Let the model's page say which version it is, which a server sees to by itself, and a database does not."""
    told = json.loads(client.get_logged_model(model_id).tags.get(_VERSIONS, "[]"))
    if not any((one["name"], str(one["version"])) == (version.name, str(version.version)) for one in told):
        told.append({"name": version.name, "version": version.version})
        client.set_logged_model_tags(model_id, {_VERSIONS: json.dumps(told)})
