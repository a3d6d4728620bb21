"""One experiment, one key."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from ocean_emulators.experiment import Experiment
from ocean_emulators.files import digest
from ocean_emulators.tracking.provenance import Provenance, changes_of_code
from ocean_emulators.workspace import PACKAGE, sources_digest


def test_keys_follow_from_configuration_and_data(experiment: Experiment) -> None:
    config = experiment.dump()
    key = Provenance(config, "data").key
    assert key == Provenance(dict(reversed(config.items())), "data").key
    assert key != Provenance(config, "other data").key
    assert key != Provenance({**config, "name": "other"}, "data").key
    assert Provenance(config, "data").tags()["code.sha256"] == sources_digest([PACKAGE])


def test_digests_tell_where_one_part_ends() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


@pytest.mark.parametrize("text", ["Größe", "line\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_changes_are_told_in_whatever_bytes_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, encoding: str
) -> None:
    monkeypatch.chdir(tmp_path)

    def git(*arguments: str) -> bytes:
        return subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True, capture_output=True
        ).stdout

    notes = tmp_path / "notes.txt"
    notes.write_text("first\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    tags = Provenance({}, "data").tags()
    assert (tags["git.commit"], tags["git.diff_sha256"]) == (git("rev-parse", "HEAD").decode().strip(), "clean")
    notes.write_bytes(text.encode(encoding))
    found = Provenance({}, "data").tags()["git.diff_sha256"]
    assert found == hashlib.sha256(git("diff", "HEAD", "--", ".")).hexdigest()
    # With sources that git does not know yet, it makes the same tree from the commit.
    (tmp_path / "new.py").write_bytes(text.encode(encoding) + b" \n")
    patch = changes_of_code()
    git("checkout", "-q", ".")
    (tmp_path / "new.py").unlink()
    subprocess.run(["git", "apply", "-"], input=patch, check=True)
    assert notes.read_bytes() == text.encode(encoding)
    assert (tmp_path / "new.py").read_bytes() == text.encode(encoding) + b" \n"
