"""What a result was made from: code, data, configuration, machine."""

import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass
from typing import Any

import torch

from ocean_emulators.files import digest
from ocean_emulators.workspace import PACKAGE, sources_digest


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
        return digest(self.config, self.data, sources_digest([PACKAGE]))

    def tags(self) -> dict[str, str]:
        """What to look an experiment up by."""
        commit = _git("rev-parse", "HEAD").decode()
        # Not the pipeline's own results, which change while it runs.
        changes = _git("diff", "HEAD", "--", ".", ":!dvc.lock", ":!outputs")
        return {
            "experiment.key": self.key,
            "config.sha256": digest(self.config),
            "data.fingerprint": self.data,
            "code.sha256": sources_digest([PACKAGE]),
            "git.commit": commit or "none",
            "git.diff_sha256": hashlib.sha256(changes).hexdigest() if changes else "clean",
            "dvc.experiment": os.environ.get("DVC_EXP_NAME") or "none",
            "python": platform.python_version(),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "host": platform.node(),
        }


def _git(*arguments: str) -> bytes:
    """What git says, in bytes, because files that changed may be in any encoding; nothing where there is no git."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return b""
    return done.stdout.strip()
