"""What a result was made from: code, data, configuration, machine."""

import hashlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from ocean_emulators.files import digest
from ocean_emulators.tracking.changes import CHANGED, DVC_NAME, NONE, changes_of_params
from ocean_emulators.tracking.git import git
from ocean_emulators.workspace import PACKAGE, sources_digest

_JOBS = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID")
_OF_A_SWEEP = re.compile(r"(.+)-\d+")
"""names that DVC, and `ocean-emulators sweep`, give the experiments of a sweep"""
BEGAN_FROM = "initial_weights.sha256"
"""tag of a run whose training began from the weights of another"""


@dataclass(frozen=True)
class Provenance:
    """Identity of an experiment."""

    config: dict[str, Any]
    """the whole resolved experiment"""
    data: str
    """fingerprint of the prepared data and the statistics"""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """digests of what it reads, by name, such as `data.train`: they follow from the rest and are told beside it"""

    @property
    def key(self) -> str:
        """One experiment, one key: configuration, data and code."""
        return digest(self.config, self.data, sources_digest([PACKAGE]))

    def tags(self) -> dict[str, str]:
        """What to look an experiment up by."""
        commit, changes = git("rev-parse", "HEAD").decode().strip(), changes_of_code()
        return {
            "experiment.key": self.key,
            "config.sha256": digest(self.config),
            "data.fingerprint": self.data,
            **self.inputs,
            "code.sha256": sources_digest([PACKAGE]),
            "git.commit": commit or NONE,
            "git.diff_sha256": hashlib.sha256(changes).hexdigest() if changes else "clean",
            "git.remote": git("config", "--get", "remote.origin.url").decode().strip() or NONE,
            CHANGED: changes_of_params(self.config),
            **_names_of_dvc(),
            **self._origin(),
            "environment.sha256": hashlib.sha256(packages().encode()).hexdigest(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "host": platform.node(),
            "launcher": _launcher(),
            "job.id": next((os.environ[name] for name in _JOBS if name in os.environ), NONE),
            "processes": os.environ.get("WORLD_SIZE", "1"),
        }

    def _origin(self) -> dict[str, str]:
        weights = (self.config.get("train") or {}).get("initial_weights")
        return {BEGAN_FROM: weights["sha256"]} if weights else {}


def _names_of_dvc() -> dict[str, str]:
    name = os.environ.get("DVC_EXP_NAME") or NONE
    sweep = _OF_A_SWEEP.fullmatch(name)
    return {DVC_NAME: name} | ({"sweep": sweep[1]} if sweep else {})


def changes_of_code() -> bytes:
    """How the working tree differs from the last commit, as a patch with new sources; nothing where there is no git."""
    # Not the pipeline's own results, which change while it runs.
    changed = git("diff", "--binary", "HEAD", "--", ".", ":!dvc.lock", ":!outputs")
    new = git("ls-files", "--others", "--exclude-standard", "-z", "--", "*.py").decode().split("\0")
    added = (git("diff", "--no-index", "--binary", "/dev/null", file, differs=1) for file in new if file)
    return b"".join([changed, *added])


@cache
def packages() -> str:
    """A line `name==version` for each package that is installed."""
    found = {f"{one.name}=={one.version}" for one in importlib.metadata.distributions()}
    return "".join(f"{line}\n" for line in sorted(found, key=str.lower))


def _launcher() -> str:
    if "SLURM_JOB_ID" in os.environ:
        return "slurm"
    return "local" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else "inline"
