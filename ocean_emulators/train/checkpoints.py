"""Checkpoints: written whole or not at all, read without running code from the file."""

import hashlib
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ocean_emulators.errors import UserError

_NUMBERS: list[Any] = [
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # the name that it had before NumPy 2
    np._core.multiarray.scalar,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
]
"""What makes NumPy's numbers, as which losses are saved: they hold bytes of a number and can call nothing."""
_FOREIGN = re.compile(r"GLOBAL ([\w.]+)")


def save_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write to a temporary name beside `path`, then put it in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def load_checkpoint(
    path: Path, device: torch.device | str = "cpu", origin: str = "`dvc repro train` makes it"
) -> dict[str, Any]:
    """Read tensors, numbers and plain types; `origin` says where a file that is missing comes from.

    Raises
    ------
    UserError
        If there is no file, or it is no checkpoint, or it holds anything that would run code.
    """
    if not path.is_file():
        raise UserError(f"{path}: no checkpoint here; {origin}")
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: {_what_is_wrong(error)}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: can't be read as a checkpoint: it holds one {type(content).__name__}, not named parts"
        )
    return content


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _what_is_wrong(error: Exception) -> str:
    """Of torch's messages much is advice to load the file in a way that may run its code; that is left out."""
    foreign = _FOREIGN.search(str(error))
    if foreign:
        return (
            f"refused: reading it would call {foreign[1]}, and no code is run from a checkpoint; have its author save it "
            "with tensors, numbers and text alone"
        )
    if isinstance(error, pickle.UnpicklingError):
        return "can't be read as a checkpoint: not a file that torch.save has written"
    return f"can't be read as a checkpoint: {str(error) or type(error).__name__}"
