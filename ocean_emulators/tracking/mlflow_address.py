"""Where a browser finds the runs of an experiment in MLflow; asked without MLflow, whose import takes seconds."""

import json
import os
import shlex
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote

from ocean_emulators.errors import mask
from ocean_emulators.tracking.mlflow import VARIABLE, own_store
from ocean_emulators.tracking.mlflow_database import experiment_in
from ocean_emulators.tracking.mlflow_page import runs_address

_OWN_SERVER = "http://127.0.0.1:5000"
"""of `mlflow ui`"""
_BY_NAME = "api/2.0/mlflow/experiments/get-by-name?experiment_name="
_PATIENCE_S = 5.0


def how_to_see_runs(home: Path, experiment: str) -> str:
    """The address of the runs of an experiment with their curves, and the command that serves it where none does."""
    uri = os.environ.get(VARIABLE)
    if uri:
        number = _experiment_at(uri, experiment) if uri.startswith("http") else None
        return f"{mask(uri).rstrip('/')}/{runs_address(number)}" if number else f"at {mask(uri)}"
    number = experiment_in(home / "mlflow.db", experiment)
    if number is None:
        return "none recorded here yet"
    command = f"mlflow ui --backend-store-uri {shlex.quote(own_store(home))}"
    return f"{_OWN_SERVER}/{runs_address(number)}\n  served by: {command}"


def _experiment_at(server: str, name: str) -> str | None:
    """The number of an experiment; None if the server knows none, or does not tell."""
    try:
        with urllib.request.urlopen(f"{server.rstrip('/')}/{_BY_NAME}{quote(name)}", timeout=_PATIENCE_S) as answer:
            return str(json.load(answer)["experiment"]["experiment_id"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return None
