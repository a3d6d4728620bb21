"""Released weights of Samudra and Samudra 2, read into a model and written back in their layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ocean_emulators.errors import UserError
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.layers.blocks import Norm, Upsampling
from ocean_emulators.models.released.layouts import Layout, read_layout
from ocean_emulators.models.released.weights import Weights, read_weights
from ocean_emulators.models.samudra import Samudra, SamudraConfig
from ocean_emulators.ocean.fields import channels
from ocean_emulators.tensors import save_tensors

_UNSAID = ("upsampling", "dilation", "norm")
"""What the tensors don't say of a network."""
_RUN = ("precision", "checkpointing", "compile")
"""How a network is computed, whatever it is."""
_NEVER = {"block": "convnext", "coordinates": False, "bathymetry": False, "positional_channels": 0}
"""What all that was published has in common and the tensors' layout takes for granted."""


class PublishedSamudra(Samudra):
    """Samudra that also takes what it is given as one tensor of stacked channels, as the published code does."""

    def forward(self, states: Tensor, forcing: Tensor | None = None, grid: str | None = None) -> Tensor:
        """One model step, as of any model; or, with `states` alone, [batch, channel, lat, lon] -> the same.

        Channels of the input are [time, channel] of the given states, then of the forcing, oldest first; those of the output
        the same of the predicted states, zero on land. All normalised.

        Raises
        ------
        UserError
            For another number of channels, or a grid that is too small.
        """
        stacked = states if forcing is None else torch.cat([states.flatten(1, 2), forcing.flatten(1, 2)], dim=1)
        if stacked.shape[1] != self.in_channels:
            raise UserError(f"found {stacked.shape[1]} channels in: these weights take {self.in_channels}")
        assert isinstance(self.config, SamudraConfig)
        self.config.check_grid((stacked.shape[2], stacked.shape[3]))
        out = torch.unflatten(self.network(stacked, grid), 1, (self.config.output_states, -1))
        out = torch.where(self.grid(self.which_grid(grid)).mask, out, 0.0)
        return out.flatten(1, 2) if forcing is None else out


@dataclass(frozen=True)
class PublishedModel:
    """Released weights in a model, and what goes in and out. With `config`, a Stepper takes the model as it is."""

    model: PublishedSamudra
    """in evaluation mode, on the CPU"""
    layout: Layout

    @property
    def config(self) -> SamudraConfig:
        """The model's configuration, as read off the tensors."""
        return self.layout.config

    @property
    def fields_in(self) -> tuple[str, ...]:
        """Fields given to a model step, in the order of their channels."""
        return self.layout.prognostic + self.layout.forcing

    @property
    def fields_out(self) -> tuple[str, ...]:
        """Fields predicted by a model step, in the order of their channels."""
        return self.layout.prognostic

    @property
    def history(self) -> int:
        """How many states are given before the present one (`hist` of the published configurations)."""
        return self.config.input_states - 1

    @property
    def channels_in(self) -> tuple[tuple[str, int], ...]:
        """Each channel of the stacked input: its name (thetao_3), and its time in steps from the present state."""
        states = self._named(self.layout.prognostic, range(-self.history, 1))
        return states + self._named(self.layout.forcing, self.config.forcing_times)

    @property
    def channels_out(self) -> tuple[tuple[str, int], ...]:
        """The same of the stacked output."""
        return self._named(self.layout.prognostic, range(1, self.config.output_states + 1))

    def _named(self, fields: tuple[str, ...], times: Sequence[int]) -> tuple[tuple[str, int], ...]:
        return tuple((c.name, time) for time in times for c in channels(fields, self.layout.levels))


def load(
    path: Path | str,
    *,
    grid: OceanContext | None = None,
    averaged: bool = True,
    levels: Sequence[int] | None = None,
    upsampling: Upsampling | None = None,
    dilation: tuple[int, ...] | None = None,
    norm: Norm | None = None,
) -> PublishedModel:
    """Read a released checkpoint into a model that computes in float32. No code in the file is run.

    Parameters
    ----------
    grid: the ocean that it is to run on; without one, the model has no land, and runs on any grid that is large enough
    averaged: take the moving average of the parameters where the file holds one
    levels: of the fields that have them; without, as many from the surface as the number of channels makes
    upsampling, dilation, norm: what the tensors do not say; without, what was published with such tensors

    Raises
    ------
    UserError
        If there is no checkpoint, it would run code, it holds no weights of a Samudra, or they are of other channels than
        `grid`; naming the tensors that are missing, left over or of the wrong shape.
    """
    weights = read_weights(path, averaged)
    given = {"upsampling": upsampling, "dilation": dilation, "norm": norm}
    layout = read_layout(weights, levels, **{name: value for name, value in given.items() if value is not None})
    if grid is not None:
        _require_channels(layout, grid, weights)
        layout.config.check_grid(grid.grid_shape)
    model = PublishedSamudra(layout.config, grid or OceanContext.anywhere(layout.n_prognostic, len(layout.forcing)))
    weights.put_into(model)
    return PublishedModel(model.eval(), layout)


def export(model: Samudra, path: Path | str) -> dict[str, Any]:
    """Write a model's weights as the published code reads them; `load` gives them back bit for bit.

    Returns
    -------
    What `load` must be given beside the path to make the same network of them: empty for what was published, else those of
    upsampling, dilation and norm that are others.

    Raises
    ------
    UserError
        If the model is one that the published layout has no place for, naming what is foreign to it.
    """
    weights = Weights(Path(path), {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()})
    config = model.config
    assert isinstance(config, SamudraConfig)
    ours = config.replace(widths=config.channels, width=None).dump()
    if config.input_states != config.output_states:
        _refuse(path, ours, ["input_states", "output_states"])
    _refuse(path, ours, [name for name, value in _NEVER.items() if ours[name] != value])
    supposed = read_layout(weights).config.dump()
    read = supposed | {name: ours[name] for name in (*_UNSAID, *_RUN)}
    _refuse(path, ours, [name for name, value in ours.items() if value != read[name]])
    save_tensors({"model": weights.tensors}, weights.path)
    return {name: ours[name] for name in _UNSAID if ours[name] != supposed[name]}


def _refuse(path: Path | str, config: dict[str, Any], foreign: Sequence[str]) -> None:
    if foreign:
        settings = ", ".join(f"model.{name}: {config[name]}" for name in foreign)
        raise UserError(f"{path}: not written: the published layout has no place for {settings}")


def _require_channels(layout: Layout, grid: OceanContext, weights: Weights) -> None:
    found, expected = (grid.n_prognostic, grid.n_forcing), (layout.n_prognostic, len(layout.forcing))
    if found != expected:
        raise UserError(
            f"{weights.path}: predicts {expected[0]} channels, driven by {expected[1]}; the ocean given as grid has "
            f"{found[0]} and {found[1]}"
        )
