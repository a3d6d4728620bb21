"""Weights in files that no code is needed, or run, to read."""

import json
from pathlib import Path

from safetensors.torch import save_file

from ocean_emulators.files import sha256
from ocean_emulators.tensors import load_tensors
from ocean_emulators.tracking.events import Model

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def find_checkpoint(model: Model, home: Path) -> Path | None:
    """A checkpoint that was handed on in the project `home`: where it lay, or in DVC's cache; None if it is in neither."""
    cached = home / ".dvc/cache/files/md5" / model.md5[:2] / model.md5[2:]
    places = (Path(model.path), cached)
    return next((place for place in places if place.is_file() and sha256(place) == model.sha256), None)


def write_weights(checkpoint: Path, folder: Path) -> None:
    """Its averaged weights, which evaluation uses, as `model.safetensors`, and all else that it says as `config.json`.

    Raises
    ------
    UserError
        If it is damaged.
    """
    content = load_tensors(checkpoint)
    content.pop("model")
    weights = {name: tensor.contiguous() for name, tensor in content.pop("averaged_model").items()}
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    plain = {name: part.tolist() if hasattr(part, "tolist") else part for name, part in content.items()}
    (folder / CONFIG).write_text(json.dumps(plain, indent=2) + "\n")
