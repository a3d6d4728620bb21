"""What `dvc exp run -S` makes of params.yaml is what `configure` and `check` make of the same words."""

import json
import re
from typing import Any

from ocean_emulators.config import apply_overrides, parse
from ocean_emulators.experiment import Experiment
from tests.integration.conftest import Project


def set_params(project: Project, changes: list[str], fails: bool = False) -> str:
    """Run the first stage alone with changed params."""
    return project.run("dvc", "exp", "run", "prepare", *(f"-S={change}" for change in changes), fails=fails)


def leaves(tree: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Every value that is no mapping, by its key."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return found


def test_every_key_and_whole_mappings_can_be_set(untouched: Project) -> None:
    """Here each in a run of its own would take minutes: all at once, each to what it is, then some to what they are not."""
    before = untouched.params()
    set_params(untouched, [f"{key}={json.dumps(value)}" for key, value in leaves(before).items()])
    assert parse(Experiment, untouched.params(), "set") == parse(Experiment, before, "before")
    changes = [
        "train.loss.field_weights={thetao: 2.0}",
        "train.learning_rate=1e-05",
        "train.loss={metric: mae}",
        "model.bathymetry=True",
        "evaluation.report_days=[5, 10.0]",
        "name='a: name # with odd signs'",
    ]
    set_params(untouched, changes)
    there = parse(Experiment, untouched.params(), "there")
    assert there == parse(Experiment, apply_overrides(Experiment, before, changes), "here")
    assert there.train.loss.field_weights == {"thetao": 2.0}
    set_params(untouched, ["train.loss.field_weights=null"])
    assert parse(Experiment, untouched.params(), "reset").train.loss.field_weights is None


def test_what_check_refuses_no_stage_begins_with(untouched: Project) -> None:
    change = "evaluation.lead_days=32"
    for text in (
        set_params(untouched, [change], fails=True),
        untouched.run("ocean-emulators", "check", change, fails=True),
    ):
        assert re.search(r"error: evaluation.lead_days: found 32, .* such as 30 or 35", text)
        assert "Traceback" not in text
