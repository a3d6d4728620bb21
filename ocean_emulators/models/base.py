"""What all emulators share: which times they read and write, how output becomes a state, and the ocean's mask."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ocean_emulators.config.base import Config
from ocean_emulators.config.bounds import Few
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.requirements import DataRequirements
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.errors import UserError
from ocean_emulators.models.layers.activation_checkpointing import Checkpointing
from ocean_emulators.ocean.grid import Grid
from ocean_emulators.registry import Registry

_POSITIONAL_STD = 1e-5

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class BaseModelConfig(Config):
    """The part of every model's configuration that the rollout depends on."""

    input_states: Few = 1
    """number of consecutive states that the model is given (1 = the present; published Samudra: 2)"""
    output_states: Few = 1
    """number of consecutive states that one model step predicts (published Samudra: 2)"""
    forcing_times: tuple[Annotated[int, Field(ge=-100, le=100)], ...] = (0, 1)
    """times of the forcing that a model step is given, in time steps from the last given state (published Samudra: [-1, 0])"""
    prediction: Literal["state", "change"] = "change"
    """what the network puts out: the state itself, or its change from the last given state"""
    change_unit: Literal["change", "state"] = "change"
    """what a predicted change is in units of: the standard deviation of the change over one step, or that of the state"""
    positional_channels: int = Field(0, ge=0, le=1000)
    """extra inputs that are learned for each cell; the weights then belong to one grid"""
    coordinates: bool = False
    """give the network each cell's position on the unit sphere (3 channels)"""
    bathymetry: bool = False
    """give the network how deep each cell's column is: the share of the predicted channels that are wet in it (1 channel)"""
    precision: Precision = "float32"
    """arithmetic inside the network; its last layer, states and losses are float32 always;
    float16, for GPUs without bfloat16, is trained with a factor on the loss"""
    checkpointing: Checkpointing = "none"
    """activation checkpointing: what the backward pass recomputes instead of keeping it in memory: nothing (none), all
    inside each block (layers), or all inside but the results of convolutions (convolutions); a Perceiver that works in
    chunks recomputes them always"""
    compile: bool = False
    """let torch.compile make kernels for the U-Net, after a minute or more for each grid; needs a C++ compiler"""

    @model_validator(mode="after")
    def _forcing_is_at_hand(self) -> "BaseModelConfig":
        allowed = range(-self.input_states + 1, self.output_states + 1)
        for time in self.forcing_times:
            if time not in allowed:
                raise ValueError(
                    f"forcing_times: found {time}: a model step that is given {self.input_states} and predicts "
                    f"{self.output_states} state(s) can use forcing at {allowed.start} to {allowed.stop - 1}"
                )
        if list(self.forcing_times) != sorted(set(self.forcing_times)):
            raise ValueError("forcing_times: expected ascending times, each once")
        return self

    @abstractmethod
    def build(self, *oceans: "OceanContext") -> "BaseModel":
        """The model, with fresh weights, for resolutions of an ocean.

        Raises
        ------
        UserError
            For a grid that it can't run on.
        """

    def autocast(self, x: Tensor) -> torch.autocast:
        """Arithmetic of `precision` while a block computes from `x`."""
        dtype = torch.float16 if self.precision == "float16" else torch.bfloat16
        return torch.autocast(x.device.type, dtype, enabled=self.precision != "float32")

    @property
    def family(self) -> str:
        """The name of its family: `type` in the configuration."""
        return next(name for name, family in FAMILIES.items() if family is type(self))

    @property
    def requirements(self) -> DataRequirements:
        """The times that one model step reads and writes."""
        return DataRequirements(self.input_states, self.output_states, self.forcing_times)


FAMILIES: Registry[type[BaseModelConfig]] = Registry("model family", "ocean_emulators.models")
"""Configurations of models by their `type`: a module or folder each, which registers its own."""


@dataclass(frozen=True)
class OceanContext:
    """What a model must know of the ocean that it is built for."""

    n_prognostic: int
    n_forcing: int
    mask: Tensor
    """[prognostic channel, lat, lon], bool"""
    lat: Tensor
    """[lat], degrees north"""
    lon: Tensor
    """[lon], degrees east"""
    change_scale: Tensor
    """[prognostic channel], standard deviation of the change over one step / standard deviation"""
    name: str = "x1"
    """of the grid, see `grid_name`"""

    @property
    def grid_shape(self) -> tuple[int, int]:
        """(lat, lon)"""
        return self.mask.shape[-2], self.mask.shape[-1]

    @classmethod
    def of(cls, packing: Packing, statistics: Statistics, grid: Grid, name: str = "x1") -> "OceanContext":
        """Of a store's packing, its statistics, its grid and the name of that."""
        n = len(packing.prognostic)
        scale = torch.as_tensor(statistics.change_std[:n] / statistics.std[:n], dtype=torch.float32)
        lat, lon = torch.tensor(grid.lat), torch.tensor(grid.lon)
        return cls(n, len(packing.forcing), packing.prognostic_mask.cpu(), lat, lon, scale, name)

    @classmethod
    def anywhere(cls, n_prognostic: int, n_forcing: int) -> "OceanContext":
        """An ocean without land on no grid in particular: its mask spreads to any."""
        wet = torch.ones(n_prognostic, 1, 1, dtype=torch.bool)
        return cls(n_prognostic, n_forcing, wet, torch.zeros(1), torch.zeros(1), torch.ones(n_prognostic))

    def unit_sphere(self) -> Tensor:
        """Position of each cell on the unit sphere, [3, lat, lon]: continuous across 0°E, unlike longitude."""
        lat, lon = torch.deg2rad(self.lat)[:, None], torch.deg2rad(self.lon)[None, :]
        xyz = [
            torch.cos(lat) * torch.cos(lon),
            torch.cos(lat) * torch.sin(lon),
            torch.sin(lat).expand(-1, lon.shape[1]),
        ]
        return torch.stack(xyz).float().to(self.mask.device)

    def depth(self) -> Tensor:
        """How deep each column is, as the share of the predicted channels that are wet in it, [1, lat, lon]: 0 on land."""
        return self.mask.float().mean(0, keepdim=True)


class GridFields(nn.Module):
    """What a model keeps of a grid that it runs on. It follows from the data, and stays out of checkpoints."""

    mask: Tensor
    """[prognostic channel, lat, lon], bool, whether there is ocean"""
    static: Tensor
    """[extra input, lat, lon]"""

    def __init__(self, config: BaseModelConfig, ocean: OceanContext) -> None:
        super().__init__()
        static = [ocean.mask[:0].float()]
        static += [ocean.unit_sphere()] if config.coordinates else []
        static += [ocean.depth()] if config.bathymetry else []
        self.register_buffer("static", torch.cat(static), persistent=False)
        self.register_buffer("mask", ocean.mask.bool(), persistent=False)


class BaseModel(nn.Module):
    """An emulator: maps given states and forcing to the next states, all normalised, land zero.

    The weights belong to no grid: a model runs on the grids of all oceans that it was built for, which are resolutions of
    one ocean, with the same fields. Each grid is known by its name.

    Channels are stacked [time, channel], oldest first, states before forcing, then what is learned or known for each cell:
    the layout of the released weights.
    """

    change_scale: Tensor

    def __init__(self, config: BaseModelConfig, *oceans: OceanContext) -> None:
        """`oceans` are the resolutions to run on, each with a name of its own.

        Raises
        ------
        UserError
            If inputs are learned for each cell, and there are several grids.
        """
        super().__init__()
        first = oceans[0]
        assert len({ocean.name for ocean in oceans}) == len(oceans), "two grids of one name"
        if config.positional_channels and len(oceans) > 1:
            raise UserError(
                f"model.positional_channels: {config.positional_channels} inputs are learned for the cells of one grid, but "
                f"there are {len(oceans)} (train.passes, evaluation.grid); use 0, and coordinates: true instead"
            )
        self.config = config
        self.grids = nn.ModuleDict({ocean.name: GridFields(config, ocean) for ocean in oceans})
        self.in_channels = (
            config.input_states * first.n_prognostic
            + len(config.forcing_times) * first.n_forcing
            + config.positional_channels
            + len(self.grid(first.name).static)
        )
        self.out_channels = config.output_states * first.n_prognostic
        scale = first.change_scale if config.change_unit == "change" else torch.ones_like(first.change_scale)
        self.register_buffer("change_scale", scale[:, None, None], persistent=False)
        if config.positional_channels:
            shape = (config.positional_channels, *first.grid_shape)
            self.positional_params = nn.Parameter(_POSITIONAL_STD * torch.randn(shape))

    def begin_near_persistence(self, head: nn.Conv2d | nn.Linear) -> None:
        """Let a model that predicts change begin with little of it; `head` is its last layer."""
        if self.config.prediction == "change":
            with torch.no_grad():
                head.weight.mul_(0.1)
                if head.bias is not None:
                    head.bias.zero_()

    def channel_of_input(self) -> list[int | None]:
        """For each input of the network, the prognostic channel whose mask it has; None if it has any wet cell (forcing)."""
        states = [*range(len(self.change_scale))] * self.config.input_states
        return [*states, *[None] * (self.in_channels - len(states))]

    def grid(self, name: str) -> GridFields:
        """What is kept of a grid."""
        fields = self.grids[name]
        assert isinstance(fields, GridFields)
        return fields

    def which_grid(self, name: str | None) -> str:
        """The grid's name; None stands for the only one there is."""
        assert name or len(self.grids) == 1, f"on which of the grids {list(self.grids)}?"
        return name or next(iter(self.grids))

    @abstractmethod
    def network(self, x: Tensor, grid: str) -> Tensor:
        """[batch, in_channels, lat, lon] -> [batch, out_channels, lat, lon]"""

    def forward(self, states: Tensor, forcing: Tensor, grid: str | None = None) -> Tensor:
        """One model step.

        Parameters
        ----------
        states: [batch, input state, prognostic channel, lat, lon]
        forcing: [batch, forcing time, forcing channel, lat, lon]
        grid: the name of the grid that they are on; None where the model was built for one alone

        Returns
        -------
        [batch, output state, prognostic channel, lat, lon]
        """
        grid = self.which_grid(grid)
        fields = self.grid(grid)
        static = [self.positional_params, fields.static] if self.config.positional_channels else [fields.static]
        extra = [channels.expand(len(states), -1, -1, -1) for channels in static]
        out = self.network(torch.cat([states.flatten(1, 2), forcing.flatten(1, 2), *extra], dim=1), grid)
        out = torch.unflatten(out, 1, (self.config.output_states, -1))
        if self.config.prediction == "change":
            out = states[:, -1:] + self.change_scale * out
        return torch.where(fields.mask, out, 0.0)  # not a product: what is not finite must not stay on land
