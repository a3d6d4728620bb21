"""What a result was made from: code, data, configuration, machine."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from ocean_emulators.files import digest
from ocean_emulators.workspace import PACKAGE, sources_digest

_JOBS = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID")


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
        commit, changes = _git("rev-parse", "HEAD").decode().strip(), changes_of_code()
        return {
            "experiment.key": self.key,
            "config.sha256": digest(self.config),
            "data.fingerprint": self.data,
            **self.inputs,
            "code.sha256": sources_digest([PACKAGE]),
            "git.commit": commit or "none",
            "git.diff_sha256": hashlib.sha256(changes).hexdigest() if changes else "clean",
            "git.remote": _git("config", "--get", "remote.origin.url").decode().strip() or "none",
            "dvc.experiment": os.environ.get("DVC_EXP_NAME") or "none",
            "environment.sha256": hashlib.sha256(packages().encode()).hexdigest(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "host": platform.node(),
            "launcher": _launcher(),
            "job.id": next((os.environ[name] for name in _JOBS if name in os.environ), "none"),
            "processes": os.environ.get("WORLD_SIZE", "1"),
        }


def changes_of_code() -> bytes:
    """How the working tree differs from the last commit, as a patch with new sources; nothing where there is no git."""
    # Not the pipeline's own results, which change while it runs.
    changed = _git("diff", "--binary", "HEAD", "--", ".", ":!dvc.lock", ":!outputs")
    new = _git("ls-files", "--others", "--exclude-standard", "-z", "--", "*.py").decode().split("\0")
    added = (_git("diff", "--no-index", "--binary", "/dev/null", file, differs=1) for file in new if file)
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


def _git(*arguments: str, differs: int = 0) -> bytes:
    """What git says, in bytes, because files that changed may be in any encoding; nothing where there is no git.

    `differs` is an exit code beside 0 by which it says that there is something to say.
    """
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    except OSError:
        return b""
    return done.stdout if done.returncode in (0, differs) else b""
