"""A project may lie in a folder of any name."""

from pathlib import Path

import pytest

from ocean_emulators.tracking.mlflow import own_store
from ocean_emulators.tracking.open import open_record
from ocean_emulators.tracking.provenance import Provenance

NAMES = ["with space", "a%41b", "a?b=c#d", "ü中", "q'u\"o", "line\nbreak", "back\\slash", "$HOME {x} [y] ~", "100%"]


def test_records_lie_in_the_project_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All names in one path: a store takes seconds to make."""
    home = tmp_path.joinpath(*NAMES)
    home.mkdir(parents=True)
    monkeypatch.setenv("OCEAN_EMULATORS_TRACKER", "mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (home / "table.csv").write_text("x")
    with open_record("tiny", Provenance({"a": 1}, "0" * 64), home) as record, record.stage("train"):
        record.log_file(home / "table.csv", "scores")
    assert (home / "mlflow.db").is_file()
    assert [path.name for path in home.glob("runs/*/files/scores/*")] == ["table.csv"]
    assert [path.name for path in home.glob("mlruns/*/artifacts/scores/*")] == ["table.csv"]
    folders = [path for path in tmp_path.rglob("*") if path.is_dir() and home not in [path, *path.parents]]
    assert len(folders) == len(NAMES) - 1, folders  # and nothing beside it


@pytest.mark.parametrize("name", NAMES)
def test_each_name_has_a_uri_of_its_own(name: str) -> None:
    assert own_store(Path("/tmp") / name).startswith("sqlite+pysqlite:////tmp/")
    assert "\n" not in own_store(Path("/tmp") / name)
