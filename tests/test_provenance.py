"""One experiment, one key."""

from pathlib import Path

import pytest

from ocean_emulators.config.base import digest
from ocean_emulators.experiment import Experiment
from ocean_emulators.stages.train import scratch_folder
from ocean_emulators.tracking.provenance import Provenance, code_hash, project_root


def test_keys_follow_from_configuration_and_data(experiment: Experiment) -> None:
    config = experiment.dump()
    key = Provenance(config, "data").key
    assert key == Provenance(dict(reversed(config.items())), "data").key
    assert key != Provenance(config, "other data").key
    assert key != Provenance({**config, "name": "other"}, "data").key
    assert Provenance(config, "data").tags()["code.sha256"] == code_hash()


def test_digests_tell_where_one_part_ends() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_working_state_belongs_to_what_the_weights_depend_on(project: Path, experiment: Experiment) -> None:
    folder = scratch_folder(experiment, "data")
    assert folder.parent == project / ".scratch"
    assert scratch_folder(experiment.replace(name="other", evaluation={"lead_days": 10}), "data") == folder
    assert scratch_folder(experiment.replace(train={**experiment.train.dump(), "seed": 9}), "data") != folder
    assert scratch_folder(experiment, "other data") != folder


def test_the_root_is_dvcs_or_the_nearest_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = project / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert project_root() == project
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    assert project_root() == Path("/elsewhere")
