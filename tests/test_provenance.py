"""One experiment, one key."""

from ocean_emulators.experiment import Experiment
from ocean_emulators.files import digest
from ocean_emulators.tracking.provenance import Provenance
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
