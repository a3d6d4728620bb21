"""What a result was made from: code, data, configuration, machine."""

import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ocean_emulators.config.base import digest

PACKAGE = Path(__file__).resolve().parents[1]


def project_root() -> Path:
    """Root of the DVC project that the user works in; the original one when DVC runs in a copy of it."""
    given = os.environ.get("DVC_ROOT")
    if given:
        return Path(given)
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)


def code_hash() -> str:
    """SHA-256 of the package's sources."""
    total = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        total.update(file.relative_to(PACKAGE).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()


@dataclass(frozen=True)
class Provenance:
    """Identity of an experiment."""

    config: dict[str, Any]
    """the whole resolved experiment"""
    data: str
    """fingerprint of the prepared data and the statistics"""

    @property
    def key(self) -> str:
        """One experiment, one key: configuration, data and code."""
        return digest(self.config, self.data, code_hash())

    def tags(self) -> dict[str, str]:
        """What to look an experiment up by."""
        commit = _git("rev-parse", "HEAD")
        # Not the pipeline's own results, which change while it runs.
        changes = _git("diff", "HEAD", "--", ".", ":!dvc.lock", ":!outputs")
        return {
            "experiment.key": self.key,
            "config.sha256": digest(self.config),
            "data.fingerprint": self.data,
            "code.sha256": code_hash(),
            "git.commit": commit or "none",
            "git.diff_sha256": hashlib.sha256(changes.encode()).hexdigest() if changes else "clean",
            "dvc.experiment": os.environ.get("DVC_EXP_NAME") or "none",
            "python": platform.python_version(),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "host": platform.node(),
        }


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
