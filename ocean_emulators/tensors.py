"""Files of tensors, numbers and text: written whole or not at all, read without running code from them, and checked."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ocean_emulators.errors import UserError
from ocean_emulators.files import replacing

_NUMBERS: list[Any] = [
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # the name that it had before NumPy 2
    np._core.multiarray.scalar,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
]
"""What makes NumPy's numbers, as which losses are saved: they hold bytes of a number and can call nothing."""
_FOREIGN = re.compile(r"GLOBAL ([\w.]+)")


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """Put named parts into the place of `path`, in one step.

    Raises
    ------
    UserError
        If the disk is full, or nothing may be written there.
    """
    with replacing(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # which torch's complaint of an unfinished file has hidden
                raise error.__context__ from None
            raise


def load_tensors(
    path: Path, device: torch.device | str = "cpu", origin: str = "`dvc repro train` makes it"
) -> dict[str, Any]:
    """Read tensors, numbers and plain types; `origin` says where a file that is missing comes from.

    Raises
    ------
    UserError
        If there is no file, it is damaged or no checkpoint, or it holds anything that would run code.
    """
    if not path.is_file():
        raise UserError(f"{path}: no checkpoint here; {origin}")
    try:
        _require_whole(path)
        with torch.serialization.safe_globals(_NUMBERS):
            content = torch.load(path, map_location=device, weights_only=True)
    except UserError:
        raise
    except Exception as error:  # torch raises what it likes
        raise UserError(f"{path}: {_what_is_wrong(error)}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: can't be read as a checkpoint: it holds one {type(content).__name__}, not named parts"
        )
    return content


def _require_whole(path: Path) -> None:
    """Hold each part of the file against its checksum, which torch writes and does not look at."""
    if not zipfile.is_zipfile(path):
        return  # of torch before 1.6, or cut short: torch says what is wrong
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise UserError(
            f"{path}: damaged: the checksum of its part {damaged} is wrong; bring the file back, or make it anew"
        )


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
