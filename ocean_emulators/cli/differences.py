"""What an experiment and another one, or this tree, differ in: code, configuration, data, environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ocean_emulators.datasets.statistics.stored import read_statistics
from ocean_emulators.datasets.store.packed_store import store_path
from ocean_emulators.experiment import Experiment
from ocean_emulators.finding import Found
from ocean_emulators.lock import differences
from ocean_emulators.tracking import Provenance, digests_of_inputs
from ocean_emulators.tracking.environment import PACKAGES
from ocean_emulators.tracking.provenance import packages
from ocean_emulators.workspace import Workspace

_SHOWN = 12


@dataclass(frozen=True)
class Inputs:
    """What a result follows from."""

    name: str
    """for messages"""
    code: Mapping[str, str]
    """digest of the sources, and where they are from"""
    config: Mapping[str, Any]
    data: Mapping[str, str]
    """digests by name"""
    packages: frozenset[str]
    """`name==version`"""
    device: str

    @classmethod
    def of_run(cls, run: Found) -> "Inputs":
        """Of a run."""
        packages = frozenset(run.text(PACKAGES).split())
        return cls(
            f"run {run.about.key[:8]}", run.tags, run.about.config, run.data, packages, run.tags.get("device", "?")
        )

    @classmethod
    def here(cls, experiment: Experiment, workspace: Workspace) -> "Inputs":
        """Of an experiment on the code and the data of a project as they are now."""
        statistics = read_statistics(store_path(workspace.statistics, experiment.data.grids[0])).fingerprint
        tags = Provenance(experiment.dump(), statistics, digests_of_inputs(workspace, "train")).tags()
        data = {name: value for name, value in tags.items() if name.startswith("data.")}
        return cls("this tree", tags, experiment.dump(), data, frozenset(packages().split()), tags["device"])

    def lines_beside(self, other: "Inputs") -> list[str]:
        """What differs in another one, the kind that explains most first; none if nothing does."""
        return [*_code(self, other), *_config(self, other), *_data(self, other), *_environment(self, other)]


def _code(one: Inputs, other: Inputs) -> list[str]:
    if one.code["code.sha256"] == other.code["code.sha256"]:
        return []
    told = [f"{each.name}: commit {each.code['git.commit'][:12]}{_dirt(each.code)}" for each in (one, other)]
    return ["code differs:", *(f"  {line}" for line in told)]


def _dirt(code: Mapping[str, str]) -> str:
    changes = code.get("git.diff_sha256", "clean")
    return "" if changes == "clean" else f" and changes {changes[:12]}"


def _config(one: Inputs, other: Inputs) -> list[str]:
    found = differences("", one.config, other.config)
    lines = [f"  {key}: {was} in {one.name}, {now} in {other.name}" for key, (was, now) in sorted(found.items())]
    return ["configuration differs:", *_some(lines)] if lines else []


def _data(one: Inputs, other: Inputs) -> list[str]:
    both = one.data.keys() & other.data.keys()
    names = sorted(name for name in both if one.data[name] != other.data[name])
    return [f"data differ: {', '.join(names)}"] if names else []


def _environment(one: Inputs, other: Inputs) -> list[str]:
    lines = [f"  device: {one.device} in {one.name}, {other.device} in {other.name}"] * (one.device != other.device)
    if one.packages and other.packages:
        for each, beside in ((one, other), (other, one)):
            lines += [f"  only in {each.name}: {package}" for package in sorted(each.packages - beside.packages)]
    return ["environment differs:", *_some(lines)] if lines else []


def _some(lines: list[str]) -> list[str]:
    more = [f"  and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return lines[:_SHOWN] + more
