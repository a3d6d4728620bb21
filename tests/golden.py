"""What the tiny run gives, as it was when it was last looked at: `golden.json`. `python -m tests.golden` writes it anew."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from ocean_emulators.workspace import Workspace
from tests.pipeline import new_workspace, run_all

FILE = Path(__file__).with_name("golden.json")


def measured(workspace: Workspace) -> dict[str, Any]:
    """The loss curve, and the tables and summaries of scores, of a project in which all stages were run."""
    history = pd.read_csv(workspace.training.history).drop(columns=["train/seconds"], errors="ignore")
    comparison = pd.read_csv(workspace.comparison.table)[["forecast", "variable", "lead", "nrmse"]]
    return {
        "loss": history.to_dict("list"),
        "nrmse": pd.read_csv(workspace.evaluation.nrmse).to_dict("list"),
        "scores": json.loads(workspace.evaluation.summary.read_text()),
        "comparison": comparison.to_dict("list"),
    }


def main() -> None:
    """Run the tiny experiment, and keep what it gives."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = run_all(new_workspace(Path(folder) / "project"))
        FILE.write_text(json.dumps(measured(workspace), indent=1) + "\n")


if __name__ == "__main__":
    main()
