"""How the emulator is trained."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from ocean_emulators.config.base import Config
from ocean_emulators.config.bounds import Count, Factor, Seed, Share
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.errors import UserError
from ocean_emulators.files import sha256
from ocean_emulators.losses.config import LossConfig
from ocean_emulators.models.families import ModelConfig
from ocean_emulators.workspace import Workspace


class InitialWeights(Config):
    path: str
    """file with released weights, or a checkpoint of this project; relative to the project's root"""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the file's content, by which DVC sees that it is another one"""
    averaged: bool = True
    """take the moving average of the weights where the file holds one"""

    @field_validator("path")
    @classmethod
    def _is_relative(cls, value: str) -> str:
        if Path(value).is_absolute():
            raise ValueError(f"found {value!r}: expected a path relative to the project's root")
        return value

    def find(self, workspace: Workspace) -> Path:
        """The file.

        Raises
        ------
        UserError
            If there is none, or its content is not what it should be.
        """
        file = workspace.find(self.path)
        if file is None:
            raise UserError(f"train.initial_weights.path: {self.path}: no such file; put it there, or name another")
        found = sha256(file)
        if found != self.sha256:
            raise UserError(
                f"train.initial_weights.sha256: {self.path} has {found}, not {self.sha256}: it is another file than the "
                "experiment was made for; put that one back, or write down the hash of this one"
            )
        return file


class TrainConfig(Config):
    seed: Seed = 1
    """seed of the first weights and of the order of batches"""
    initial_weights: InitialWeights | None = None
    """weights that training begins from; null draws them at random"""
    epochs: int = Field(ge=0, le=100_000)
    """passes over the training period; 0 takes the initial weights as they are"""
    batch_size: Count
    """windows per optimiser step, over all processes together"""
    rollout_steps: tuple[Count, ...] = Field(min_length=1)
    """length of the rollout that the loss sees, in model steps (K); several are used one after the other, each for
    an equal share of the epochs, of which there are at least as many; validation uses the last"""
    passes: tuple[Annotated[float, Field(ge=0, le=1000)], ...] = Field((1.0,), min_length=1)
    """how often an epoch shows each window of a resolution, for the resolutions of data.coarsen in their order; those that
    it does not reach, and those with 0, are not trained on. Batches hold one resolution each, in random order"""
    strides: tuple[Count, ...] = Field((1,), min_length=1)
    """distances between consecutive states of training windows, in time steps of the data; 1 must be among them, because
    validation and rollouts step from state to state"""
    detach_every: int = Field(0, ge=0, le=1_000_000)
    """cut the gradient before every n-th model step of a rollout; 0 = back-propagate through all of it"""
    learning_rate: float = Field(gt=0, le=1000)
    """highest learning rate of Adam"""
    warmup_fraction: Share = 0.05
    """share of all optimiser steps over which the learning rate rises from zero; then it falls to zero as a cosine"""
    weight_decay: Factor = 0.0
    """decoupled weight decay (AdamW); 0 is Adam"""
    adam_betas: tuple[Share, Share] = (0.9, 0.999)
    """decay of Adam's averages of the gradient and of its square"""
    input_noise: Factor = 0.0
    """noise on the states that training rollouts begin from, in standard deviations of the change over one step: teaches
    the emulator to pull its own errors back"""
    gradient_clip: float = Field(1.0, ge=1e-6, le=1e30)
    """largest norm of the gradient"""
    ema_decay: Share = 0.999
    """decay per optimiser step of the weights' moving average, which is what validation and evaluation use"""
    loss: LossConfig = LossConfig()
    """what is minimised"""

    @field_validator("passes")
    @classmethod
    def _first_is_trained(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if value[0] == 0:
            raise ValueError(
                f"found {list(value)}: the first resolution, which all are normalised like, must be trained on"
            )
        return value

    @field_validator("strides")
    @classmethod
    def _steps_are_trained(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if 1 not in value:
            raise ValueError(f"found {list(value)}: 1 must be among them, because rollouts step from state to state")
        if len(set(value)) < len(value):
            raise ValueError(f"found {list(value)}: expected each distance once")
        return value

    @model_validator(mode="after")
    def _something_comes_out(self) -> "TrainConfig":
        if self.epochs == 0 and self.initial_weights is None:
            raise ValueError("epochs: found 0: expected 1 or more, or initial_weights that are to be taken as they are")
        return self

    @model_validator(mode="after")
    def _each_setting_has_its_turn(self) -> "TrainConfig":
        steps = list(self.rollout_steps)
        if 0 < self.epochs < len(steps):
            raise ValueError(
                f"rollout_steps: found {steps}, of which {self.epochs} epoch(s) leave out {len(steps) - self.epochs}; give at "
                f"most {self.epochs}, or {len(steps)} epochs or more"
            )
        if self.epochs and self.detach_every >= max(steps):
            raise ValueError(
                f"detach_every: found {self.detach_every}, but rollouts of {max(steps)} model step(s) (rollout_steps) have no "
                "such step, so that nothing is cut; give 0, or fewer than there are"
            )
        return self


class TrainSections(Config):
    """The sections of an experiment that training reads, and no others: a change elsewhere is no other training."""

    data: DataConfig
    """what is learned from and predicted"""
    model: ModelConfig
    """the emulator"""
    train: TrainConfig
    """how it is trained"""

    @property
    def read(self) -> dict[str, Any]:
        """The values that weights depend on, plain data: what a checkpoint says that it was trained by."""
        data = self.data
        periods = {"train": data.periods.train.dump(), "validation": data.periods.validation.dump()}
        sections = {"coarsen": list(data.coarsen), "periods": periods}
        return {"data": sections, "model": self.model.dump(), "train": self.train.dump()}

    @property
    def passes(self) -> dict[str, float]:
        """How often an epoch shows the windows of each grid that is trained on, by its name."""
        named = zip(self.data.grids, self.train.passes, strict=False)
        return {grid: passes for grid, passes in named if passes > 0}
