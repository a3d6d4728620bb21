"""What the tensors of released weights say of their model: fields, levels, widths, expansion, normalisation, last kernel.

They do not say the dilation, which doubles with each pooling in all that was published; nor the upsampling, which was bilinear
where the expansion is 4 (Samudra) and is periodic in longitude since (Samudra 2). A model that normalises each state by itself
can't be told from one that normalises nothing, which was never published.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ocean_emulators.config.base import parse
from ocean_emulators.errors import UserError
from ocean_emulators.models.released.weights import Weights, listing
from ocean_emulators.models.samudra import SamudraConfig
from ocean_emulators.ocean.fields import FIELDS, channels
from ocean_emulators.ocean.levels import OM4_DEPTH

PROGNOSTIC = (("uo", "vo", "thetao", "so", "zos"), ("thetao", "so", "zos"))
"""Sets of fields that were published to be predicted, in the order of the channels."""
FORCING = ("tauuo", "tauvo", "hfds", "hfds_anomalies")

_FORCED = {
    # forcing channels of a model step: fields, times
    8: (FORCING, (-1, 0)),
    6: (FORCING[:3], (-1, 0)),
    2: (FORCING[2:3], (-1, 0)),
    4: (FORCING, (0,)),  # the first release gives the last time alone
    3: (FORCING[:3], (0,)),
    1: (FORCING[2:3], (0,)),
}
_BLOCK = re.compile(r"unet\.layers\.(\d+)\.")


@dataclass(frozen=True)
class Layout:
    """What goes in and out of a model, and how it is built."""

    config: SamudraConfig
    prognostic: tuple[str, ...]
    """predicted fields, in the order of the channels"""
    forcing: tuple[str, ...]
    """fields that drive it, in the order of the channels"""
    levels: tuple[int, ...]
    """levels of the fields that have them, counted from the surface"""

    @property
    def n_prognostic(self) -> int:
        """Channels of one state."""
        return len(channels(self.prognostic, self.levels))


def read_layout(weights: Weights, levels: Sequence[int] | None = None, **settings: Any) -> Layout:
    """Read the layout off tensors under today's names.

    Parameters
    ----------
    levels: of the fields that have them; without, as many from the surface as the number of channels makes
    settings: of the model's configuration, in place of what is read or supposed

    Raises
    ------
    UserError
        If they are not those of a Samudra.
    """
    poolings = _count_poolings(weights)
    first, head = _shape(weights, "unet.layers.0.convblock.0.weight"), _shape(weights, "decoder.weight")
    widths = tuple(_shape(weights, f"unet.layers.{2 * i}.convblock.6.weight")[0] for i in range(poolings))
    expansion = max(1, first[0] // first[1])
    prognostic, levels = _predicted(weights, levels)
    forcing, times = _driven(weights, first[1] - head[0])
    batch_norm = any(name.endswith("running_mean") for name in weights.tensors)
    read = {
        "input_states": _states(head[0]),
        "output_states": _states(head[0]),
        "forcing_times": times,
        "prediction": "state",
        "widths": widths,
        "kernel_size": first[-1],
        "dilation": tuple(2**i for i in range(poolings)),
        "expansion": expansion,
        "norm": "batch" if batch_norm else "instance",
        "activation_cap": _activation_cap(weights),
        "upsampling": "bilinear" if expansion == 4 else "periodic_bilinear",
        "head_kernel": head[-1],
    }
    return Layout(parse(SamudraConfig, read | settings, str(weights.path)), prognostic, forcing, tuple(levels))


def possible_levels(weights: Weights) -> dict[tuple[str, ...], int]:
    """The number of levels that the predicted channels would be of, for each set of fields that fits their number."""
    out = _shape(weights, "decoder.weight")[0]
    n, counts = out // _states(out), dict[tuple[str, ...], int]()
    for names in PROGNOSTIC:
        deep = sum(FIELDS[name].has_levels for name in names)
        count, rest = divmod(n - (len(names) - deep), deep)
        if rest == 0 and 1 <= count <= len(OM4_DEPTH):
            counts[names] = count
    return counts


def _states(out_channels: int) -> int:
    """Two states a model step where the channels are even: a state has pairs of fields with levels, and sea surface height."""
    return 2 - out_channels % 2


def _predicted(weights: Weights, levels: Sequence[int] | None) -> tuple[tuple[str, ...], Sequence[int]]:
    possible = possible_levels(weights)
    for names, count in possible.items():
        if levels is None or len(levels) == count:
            return names, levels or range(count)
    out = _shape(weights, "decoder.weight")[0]
    wanted = "" if levels is None else f" on {len(levels)} levels"
    fits = (
        "; ".join(f"{', '.join(names)} on {count} levels" for names, count in possible.items()) or "nothing published"
    )
    raise UserError(
        f"{weights.path}: {out} channels out are not two states of published fields{wanted}; they fit {fits}"
    )


def _driven(weights: Weights, n_channels: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if n_channels not in _FORCED:
        known = ", ".join(f"{n} ({len(names)} fields at {len(times)})" for n, (names, times) in _FORCED.items())
        raise UserError(
            f"{weights.path}: {n_channels} channels in beside the states: expected those of published forcing, which are "
            f"(fields at times): {known}"
        )
    return _FORCED[n_channels]


def _count_poolings(weights: Weights) -> int:
    """The U-Net has a block for each pooling on the way down, as many on the way up, and one between."""
    places = sorted({int(match[1]) for name in weights.tensors if (match := _BLOCK.match(name))})
    poolings, rest = divmod(max(places, default=0), 4)
    if rest or not poolings:
        held = listing(list(weights.tensors)) or "nothing"
        raise UserError(
            f"{weights.path}: not the weights of a Samudra: expected the blocks of its U-Net, unet.layers.0, 2, … 4n, "
            f"found {places or held}"
        )
    return poolings


def _activation_cap(weights: Weights) -> float:
    # Seven digits: a number that went through float32 comes back as it was written.
    caps = {
        float(f"{float(tensor):.7g}")
        for name, tensor in weights.tensors.items()
        if name.endswith(".cap") and tensor.numel() == 1
    }
    if len(caps) > 1:
        raise UserError(
            f"{weights.path}: the blocks cap their activations at {sorted(caps)}: expected one number for all"
        )
    return caps.pop() if caps else 10.0


def _shape(weights: Weights, name: str) -> torch.Size:
    if name not in weights.tensors:
        raise UserError(f"{weights.path}: missing: {name}; without it, the model can't be told")
    shape = weights.tensors[name].shape
    if len(shape) != 4 or 0 in shape:
        raise UserError(
            f"{weights.path}: {name} is {list(shape)}: expected the weights [out, in, lat, lon] of a convolution"
        )
    return shape
