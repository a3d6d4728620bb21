"""The checkpoint that a training hands on: a model, its weights, and all that says what they may be used for."""

import json
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.errors import UserError
from ocean_emulators.models.base import BaseModelConfig
from ocean_emulators.models.families import parse_model
from ocean_emulators.models.released.weights import Weights
from ocean_emulators.tensors import load_tensors, save_tensors

_FORMAT = 2
_CLOSE = 1e-5
_MOMENTS = ("mean", "std", "change_std")
_KINDS: dict[str, type] = {
    "config": dict,
    "channels": tuple,
    "n_prognostic": int,
    "data_fingerprint": str,
    "model": dict,
    "averaged_model": dict,
    "versions": dict,
}


@dataclass(frozen=True)
class Checkpoint:
    """A trained emulator, as it lies in a file."""

    config: dict[str, Any]
    """the sections of the experiment that it was trained by, plain data; `model` builds it"""
    channels: tuple[str, ...]
    """prognostic, then forcing"""
    n_prognostic: int
    mean: Tensor
    """[channel], physical units, float64"""
    std: Tensor
    """[channel]"""
    change_std: Tensor
    """[channel], standard deviation of the change over one time step"""
    data_fingerprint: str
    """of the data that it was trained on"""
    model: dict[str, Tensor]
    """raw weights, by the names of the state dict"""
    averaged_model: dict[str, Tensor]
    """their moving average, which is what evaluation uses"""
    versions: dict[str, str] = field(
        default_factory=lambda: {"python": platform.python_version(), "torch": str(torch.__version__)}
    )

    @classmethod
    def of(
        cls, grid: PreparedGrid, config: dict[str, Any], model: dict[str, Tensor], averaged_model: dict[str, Tensor]
    ) -> Self:
        """Of weights that were trained on a prepared grid."""
        statistics, store = grid.statistics, grid.store
        return cls(
            # As if it had been read from a file: which strings are one object, which a pickle tells, has no meaning.
            config=json.loads(json.dumps(config)),
            channels=tuple(c.name for c in store.channels),
            n_prognostic=len(store.prognostic),
            mean=torch.from_numpy(statistics.mean),
            std=torch.from_numpy(statistics.std),
            change_std=torch.from_numpy(statistics.change_std),
            data_fingerprint=grid.fingerprint,
            model={name: tensor.cpu() for name, tensor in model.items()},
            averaged_model={name: tensor.cpu() for name, tensor in averaged_model.items()},
        )

    @property
    def model_config(self) -> BaseModelConfig:
        """What builds the model."""
        return parse_model(self.config["model"], "checkpoint: config.model")

    def save(self, path: Path) -> None:
        """Put it in the place of `path`, in one step.

        Raises
        ------
        UserError
            If the disk is full, or nothing may be written there.
        """
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        save_tensors({"format": _FORMAT, **content, "channels": list(self.channels)}, path)

    @classmethod
    def load(cls, path: Path, origin: str = "`dvc repro train` makes it") -> Self:
        """Read a checkpoint, and hold it against itself.

        Raises
        ------
        UserError
            If there is none, it is damaged, would run code, lacks a part or has one of another kind or shape, or holds
            weights that are not finite.
        """
        content = load_tensors(path, origin=origin)
        version = content.pop("format", None)
        if type(version) is not int or version != _FORMAT:
            raise UserError(
                f"{path}: not a checkpoint of this version of the project (format {_FORMAT}); train it again, or name it as "
                "train.initial_weights if it is of released weights"
            )
        missing, left_over = (
            sorted(map(str, a - b)) for a, b in _both_ways(set(cls.__dataclass_fields__), set(content))
        )
        if missing or left_over:
            parts = [f"it lacks {', '.join(missing)}"] if missing else []
            parts += [f"it holds {', '.join(left_over)}, which is not known"] if left_over else []
            raise UserError(
                f"{path}: not a whole checkpoint: {'; '.join(parts)}; bring the file back, or train it again"
            )
        try:
            checkpoint = cls(**content | {"channels": tuple(content["channels"])})
            checkpoint._require_sense()
        except (TypeError, ValueError, AttributeError, LookupError, RuntimeError, UserError) as error:
            raise UserError(
                f"{path}: not a whole checkpoint: {error}; bring the file back, or train it again"
            ) from error
        return checkpoint

    def _require_sense(self) -> None:
        """Raise an error that says which part is not what it should be."""
        for name, kind in _KINDS.items():
            if type(getattr(self, name)) is not kind:
                raise ValueError(f"{name} is {_a(getattr(self, name))}, not {kind.__name__}")
        if not all(isinstance(c, str) for c in self.channels) or len(set(self.channels)) < len(self.channels):
            raise ValueError("channels are not names, each once")
        if not 0 < self.n_prognostic <= len(self.channels):
            raise ValueError(f"n_prognostic is {self.n_prognostic} of {len(self.channels)} channels")
        for name in _MOMENTS:
            _require_numbers(name, getattr(self, name))
            if tuple(getattr(self, name).shape) != (len(self.channels),):
                raise ValueError(f"{name} is not a number for each of {len(self.channels)} channels")
        for part in ("model", "averaged_model"):
            for name, tensor in getattr(self, part).items():
                _require_numbers(f"{part}.{name}", tensor)
        shapes = [{name: t.shape for name, t in part.items()} for part in (self.model, self.averaged_model)]
        if shapes[0] != shapes[1]:
            raise ValueError("model and averaged_model are not of the same tensors")
        if "model" not in self.config:
            raise ValueError("config has no model")
        _ = self.model_config  # is parsed

    def weights(self, path: Path, averaged: bool = True) -> Weights:
        """Its weights; `path` is what messages name."""
        return Weights(path, self.averaged_model if averaged else self.model, self.channels)

    def require_matches(self, grid: PreparedGrid, path: Path) -> None:
        """Refuse prepared data that these weights were not made for; `path` is what messages name.

        Raises
        ------
        UserError
            Naming what differs: channels or their order, statistics, or the content of the data.
        """
        way_out = "train it on these data (`dvc repro train`), or bring back the data that it was trained on"
        self.weights(path).require_channels([c.name for c in grid.store.channels])
        for name in _MOMENTS:
            own, theirs = getattr(self, name).numpy(), getattr(grid.statistics, name)
            off = ~np.isclose(own, theirs, rtol=_CLOSE, atol=0)
            if off.any():
                k = int(off.argmax())
                raise UserError(
                    f"{path}: trained on {self.channels[k]} with a {name} of {own[k]:g}, but in the prepared data it is "
                    f"{theirs[k]:g}; {way_out}"
                )
        if self.data_fingerprint != grid.fingerprint:
            raise UserError(
                f"{path}: trained on other data than the prepared ones ({self.data_fingerprint[:12]}…, not "
                f"{grid.fingerprint[:12]}…), though their fields and statistics are alike; {way_out}"
            )


def _both_ways(a: set[str], b: set[str]) -> tuple[tuple[set[str], set[str]], tuple[set[str], set[str]]]:
    return (a, b), (b, a)


def _require_numbers(name: str, value: Any) -> None:
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        raise ValueError(f"{name} is {_a(value)}, not a dense tensor")
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} holds values that are not finite")


def _a(value: Any) -> str:
    return f"of type {type(value).__name__}"
