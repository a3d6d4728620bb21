"""How the emulator is trained."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ocean_emulators.config.base import Config
from ocean_emulators.config.bounds import Count, Factor, Seed, Share
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.errors import UserError
from ocean_emulators.files import sha256
from ocean_emulators.losses.config import LossConfig
from ocean_emulators.models.families import ModelConfig
from ocean_emulators.train.schedules import ScheduleConfig
from ocean_emulators.train.selection import EarlyStopping, RolloutValidation
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
    accumulation_steps: Count = 1
    """micro-batches that a process takes its share of a batch in, one after the other: less memory, the same gradient"""
    rollout_steps: tuple[Count, ...] = Field(min_length=1)
    """length of the rollout that the loss sees, in model steps (K); several are used one after the other; validation uses
    the last"""
    rollout_epochs: tuple[Count, ...] | None = None
    """for how many epochs each of rollout_steps is used; null gives each an equal share"""
    rollout_probabilities: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = None
    """draw one of rollout_steps for each batch with these probabilities, instead of one after the other"""
    passes: tuple[Annotated[float, Field(ge=0, le=1000)], ...] = Field((1.0,), min_length=1)
    """how often an epoch shows each window of a resolution, for the resolutions of data.coarsen in their order; those that
    it does not reach, and those with 0, are not trained on. Batches hold one resolution each, in random order"""
    strides: tuple[Count, ...] = Field((1,), min_length=1)
    """distances between consecutive states of training windows, in time steps of the data; 1 must be among them, because
    validation and rollouts step from state to state"""
    detach_every: int = Field(0, ge=0, le=1_000_000)
    """cut the gradient before every n-th model step of a rollout; 0 = back-propagate through all of it"""
    optimizer: Literal["adam", "adamw"] = "adamw"
    """Adam with weight decay as part of the gradient (adam) or beside it (adamw)"""
    learning_rate: float = Field(gt=0, le=1000)
    """highest learning rate"""
    schedule: ScheduleConfig = ScheduleConfig()
    """how the learning rate changes"""
    weight_decay: Factor = 0.0
    """weight decay; 0 makes adamw and adam the same"""
    adam_betas: tuple[Share, Share] = (0.9, 0.999)
    """decay of Adam's averages of the gradient and of its square"""
    input_noise: Factor = 0.0
    """noise on the states that training rollouts begin from, in standard deviations of the change over one step: teaches
    the emulator to pull its own errors back"""
    gradient_clip: float = Field(1.0, ge=1e-6, le=1e30)
    """largest norm of the gradient"""
    skip_nonfinite: int = Field(0, ge=0, le=1_000_000)
    """batches that may be left out because their loss or gradient is not finite; at one more, training stops"""
    ema_decay: Share = 0.999
    """decay per optimiser step of the weights' moving average, which is what validation and evaluation use"""
    ema_warmup: bool = True
    """let the average follow faster in the beginning: after n steps its decay is at most (1 + n) / (10 + n)"""
    validate_every: Count = 1
    """epochs between validations; after the last epoch there is always one"""
    validate_steps: Count | None = None
    """optimiser steps between further validations within epochs, which count for best_by, early_stopping and plateaus; the
    history is of those at the ends of epochs, the tracker's record of all"""
    rollout_validation: RolloutValidation | None = None
    """free rollouts from several starts of the validation period, scored with each validation; null makes none"""
    hand_on: Literal["last", "best"] = "last"
    """which weights evaluation gets: those after the last epoch, or those of the best validation by best_by"""
    best_by: str = Field(
        "val/mean/loss", pattern=r"^((train|val)/mean/loss|val/rollout/nrmse/[A-Za-z0-9_]+)$", max_length=100
    )
    """the number of the history that is lowest for the best weights, such as val/mean/loss, or val/rollout/nrmse/mean (which
    needs rollout_validation)"""
    early_stopping: EarlyStopping | None = None
    """end training when best_by no longer falls; null trains for all epochs"""
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
        if self.rollout_probabilities is not None:
            self._require_probabilities()
        elif self.rollout_epochs is not None:
            self._require_phases()
        elif 0 < self.epochs < len(steps):
            raise ValueError(
                f"rollout_steps: found {steps}, of which {self.epochs} epoch(s) leave out {len(steps) - self.epochs}; give at "
                f"most {self.epochs}, or {len(steps)} epochs or more"
            )
        if self.epochs and self.detach_every >= max(steps):
            raise ValueError(
                f"detach_every: found {self.detach_every}, but rollouts of {max(steps)} model step(s) (rollout_steps) have no "
                "such step, so that nothing is cut; give 0, or fewer than there are"
            )
        if self.accumulation_steps > self.batch_size:
            raise ValueError(
                f"accumulation_steps: found {self.accumulation_steps}, more than the {self.batch_size} window(s) of a batch "
                "(batch_size)"
            )
        return self

    def _require_probabilities(self) -> None:
        odds, steps = list(self.rollout_probabilities or ()), list(self.rollout_steps)
        if self.rollout_epochs is not None:
            raise ValueError("rollout_probabilities: rollout_epochs is given too; draw lengths, or set epochs for each")
        if len(odds) != len(steps):
            raise ValueError(f"rollout_probabilities: found {odds}: expected one for each of rollout_steps, {steps}")
        if abs(sum(odds) - 1) > 1e-6:
            raise ValueError(f"rollout_probabilities: found {odds}, together {sum(odds):g}: expected 1")
        if len(set(steps)) < len(steps):
            raise ValueError(f"rollout_steps: found {steps}: expected each length once, where they are drawn")

    def _require_phases(self) -> None:
        epochs, steps = list(self.rollout_epochs or ()), list(self.rollout_steps)
        if len(epochs) != len(steps):
            raise ValueError(f"rollout_epochs: found {epochs}: expected one for each of rollout_steps, {steps}")
        if self.epochs and sum(epochs) != self.epochs:
            raise ValueError(f"rollout_epochs: found {epochs}, together {sum(epochs)}: expected epochs, {self.epochs}")

    @model_validator(mode="after")
    def _best_is_known(self) -> "TrainConfig":
        if self.best_by.startswith("val/rollout/") and self.rollout_validation is None:
            raise ValueError(
                f"best_by: found {self.best_by!r}, which rollout_validation makes; set it, or choose another"
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
