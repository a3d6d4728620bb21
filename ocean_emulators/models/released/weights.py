"""Weights from a file under today's names, whichever of the published layouts they were saved in.

The published layouts differ in a prefix (`module.`, from parallel training), in the names of the first release (no `unet.`,
the last convolution numbered like a layer), in 1×1 convolutions that are stored as linear maps, and in a moving average of the
parameters that may lie beside them under their names without dots.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from ocean_emulators.errors import UserError
from ocean_emulators.tensors import load_tensors

ORIGIN = "give the path of released weights, or of a checkpoint of your own"
_BUFFERS = ("cap", "running_mean", "running_var", "num_batches_tracked")
_LEGACY_HEAD = re.compile(r"layers\.\d+\.(weight|bias)")
_SHOWN = 6
_RAW = "take the raw weights instead (--raw, or averaged: false)"


@dataclass(frozen=True)
class Weights:
    """The tensors of a model, by the names of its state dict."""

    path: Path
    tensors: dict[str, Tensor]
    channels: tuple[str, ...] | None = None
    """names of the channels that they were trained on, where the file says so"""

    def put_into(self, model: nn.Module) -> None:
        """Give a model these weights.

        Raises
        ------
        UserError
            Naming the tensors that are missing, left over, or of another shape than the model's, or the cap of its
            activations that is another.
        """
        self.require_fit(model)
        model.load_state_dict(self.tensors)

    def require_fit(self, model: nn.Module) -> None:
        """Raise what `put_into` would. Of a model on the meta device, which holds no numbers, caps are not looked at."""
        expected = model.state_dict()
        differences = (
            compare(self.tensors, expected)
            or [
                f"{name} is {float(self.tensors[name]):.7g} instead of {float(tensor):.7g} (model.activation_cap)"
                for name, tensor in expected.items()
                if name.endswith(".cap")
                and not (tensor.is_meta or torch.allclose(self.tensors[name].to(tensor), tensor))
            ][:1]
        )
        if differences:
            raise UserError(
                f"{self.path}: these are not the model's weights: {'; '.join(differences)}; set model and data to what "
                "they were trained with"
            )

    def require_channels(self, channels: Sequence[str]) -> None:
        """Raise a UserError if they were trained on other channels than these, where the file says so."""
        if self.channels not in (None, tuple(channels)):
            raise UserError(
                f"{self.path}: trained on other channels than the data's, or in another order: "
                f"{', '.join(self.channels or ())}; set data.prognostic, data.forcing and data.levels to match them"
            )


def read_weights(path: Path | str, averaged: bool = True) -> Weights:
    """Read released weights, or those of a checkpoint of this project.

    Parameters
    ----------
    averaged: take the moving average of the parameters where the file holds one

    Raises
    ------
    UserError
        If there is no file, it is no checkpoint or would run code, it holds no weights, or its moving average is not of
        its parameters.
    """
    path = Path(path)
    content = load_tensors(path, origin=ORIGIN)
    key = "averaged_model" if averaged and "averaged_model" in content else "model"
    tensors = content.get(key)
    if not _are_tensors(tensors):
        held = ", ".join(sorted(map(str, content))[:_SHOWN]) or "nothing"
        raise UserError(f"{path}: expected the weights' tensors under the key {key!r}; the file holds {held}")
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    average = content.get("ema")
    if averaged and isinstance(average, dict) and "ema_params" in average:
        tensors |= _with_dots(average["ema_params"], tensors, path)
    return Weights(path, _under_todays_names(tensors), _channels(content))


def compare(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """What is wrong with tensors that should have the names and shapes of others; empty if nothing is."""
    faults = {
        "missing": [name for name in expected if name not in found],
        "not known": [name for name in found if name not in expected],
        "of the wrong shape": [
            f"{name} {list(found[name].shape)} instead of {list(tensor.shape)}"
            for name, tensor in expected.items()
            if name in found and found[name].shape != tensor.shape
        ],
    }
    return [f"{what}: {listing(names)}" for what, names in faults.items() if names]


def listing(names: list[str]) -> str:
    """Names in a message, the first few."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _are_tensors(part: Any) -> TypeGuard[dict[str, Tensor]]:
    return isinstance(part, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in part.items())


def _with_dots(average: Any, tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The averaged parameters under the names of the raw ones."""
    if not _are_tensors(average):
        raise UserError(f"{path}: expected tensors by name under ema.ema_params; {_RAW}")
    names = {name.replace(".", ""): name for name in tensors if not name.endswith(_BUFFERS)}
    foreign, without = [n for n in average if n not in names], [names[n] for n in names if n not in average]
    if foreign or without:
        parts = [f"belongs to no parameter: {listing(foreign)}"] if foreign else []
        parts += [f"is missing for: {listing(without)}"] if without else []
        raise UserError(
            f"{path}: the moving average under ema.ema_params is not of these weights: it {'; it '.join(parts)}; {_RAW}"
        )
    return {names[name]: tensor for name, tensor in average.items()}


def _under_todays_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        if _LEGACY_HEAD.fullmatch(name):
            name = f"decoder.{name.rpartition('.')[2]}"
        elif name.startswith("layers."):
            name = f"unet.{name}"
        if ".linear." in name:
            name = name.replace(".linear.", ".")
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        renamed[name] = tensor
    return renamed


def _channels(content: Mapping[str, Any]) -> tuple[str, ...] | None:
    channels = content.get("channels")
    return tuple(channels) if isinstance(channels, list) else None
