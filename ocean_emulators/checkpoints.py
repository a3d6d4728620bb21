"""Checkpoints: written whole or not at all, read without running code from the file."""

import os
from pathlib import Path
from typing import Any

import torch

from ocean_emulators.errors import UserError


def save_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write to a temporary name beside `path`, then put it in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read tensors and plain types.

    Raises
    ------
    UserError
        If there is no file, or it is no checkpoint.
    """
    if not path.is_file():
        raise UserError(f"{path}: no checkpoint here; `dvc repro train` makes it")
    try:
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: can't be read as a checkpoint: {error}") from error
    return content
