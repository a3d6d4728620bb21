"""Training: K-call rollouts with Adam, a cosine schedule, gradient clipping and an average of the weights."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import torch
from pydantic import Field, field_validator, model_validator
from torch_ema import ExponentialMovingAverage
from tqdm import tqdm

from ocean_emulators.aggregator.train import TrainAggregator
from ocean_emulators.aggregator.validate import ValidateAggregator
from ocean_emulators.config import Config
from ocean_emulators.datasets.loading.loader import Loader
from ocean_emulators.datasets.loading.samplers import BatchSampler, SequentialBatches
from ocean_emulators.datasets.loading.train_data import TrainData
from ocean_emulators.errors import UserError
from ocean_emulators.losses.masked import LossConfig
from ocean_emulators.stepper import Stepper
from ocean_emulators.train.checkpoints import file_hash, load_checkpoint, save_checkpoint


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

    def find(self, root: Path) -> Path:
        """The file: in the working directory, or, where DVC runs in a copy of the project, at its `root`.

        Raises
        ------
        UserError
            If there is none, or its content is not what it should be.
        """
        file = next((place for place in (Path(self.path), root / self.path) if place.is_file()), None)
        if file is None:
            raise UserError(f"train.initial_weights.path: {self.path}: no such file; put it there, or name another")
        found = file_hash(file)
        if found != self.sha256:
            raise UserError(
                f"train.initial_weights.sha256: {self.path} has {found}, not {self.sha256}: it is another file than the "
                "experiment was made for; put that one back, or write down the hash of this one"
            )
        return file


class TrainConfig(Config):
    seed: int = Field(1, ge=0)
    """seed of the first weights and of the order of batches"""
    initial_weights: InitialWeights | None = None
    """weights that training begins from; null draws them at random"""
    epochs: int = Field(ge=0)
    """passes over the training period; 0 takes the initial weights as they are"""
    batch_size: int = Field(ge=1)
    """windows per optimiser step, over all processes together"""
    rollout_calls: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    """length of the rollout that the loss sees, in model steps (K); several are used one after the other, each for
    an equal share of the epochs; validation uses the last"""
    passes: tuple[Annotated[float, Field(ge=0)], ...] = Field((1.0,), min_length=1)
    """how often an epoch shows each window of a resolution, for the resolutions of data.coarsen in their order; those that
    it does not reach, and those with 0, are not trained on. Batches hold one resolution each, in random order"""
    strides: tuple[Annotated[int, Field(ge=1)], ...] = Field((1,), min_length=1)
    """distances between consecutive states of training windows, in time steps of the data; 1 must be among them, because
    validation and rollouts step from state to state"""
    detach_every: int = Field(0, ge=0)
    """cut the gradient before every n-th model step of a rollout; 0 = back-propagate through all of it"""
    learning_rate: float = Field(gt=0)
    """highest learning rate of Adam"""
    warmup_fraction: float = Field(0.05, ge=0, lt=1)
    """share of all optimiser steps over which the learning rate rises from zero; then it falls to zero as a cosine"""
    weight_decay: float = Field(0.0, ge=0)
    """decoupled weight decay (AdamW); 0 is Adam"""
    adam_betas: tuple[float, float] = (0.9, 0.999)
    """decay of Adam's averages of the gradient and of its square"""
    input_noise: float = Field(0.0, ge=0)
    """noise on the states that training rollouts begin from, in standard deviations of the change over one step: teaches
    the emulator to pull its own errors back"""
    gradient_clip: float = Field(1.0, gt=0)
    """largest norm of the gradient"""
    ema_decay: float = Field(0.999, ge=0, lt=1)
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
        return value

    @model_validator(mode="after")
    def _something_comes_out(self) -> "TrainConfig":
        if self.epochs == 0 and self.initial_weights is None:
            raise ValueError("epochs: found 0: expected 1 or more, or initial_weights that are to be taken as they are")
        return self


Report = Callable[[int, dict[str, float]], None]


class Trainer:
    """The training loop. Knows its parts, not where they come from. `train_data` has one entry per `rollout_calls`.

    After each epoch the state is saved to `checkpoint`; a Trainer that resumes from there ends with the weights, bit for
    bit, that an uninterrupted run would have.
    """

    def __init__(
        self,
        config: TrainConfig,
        stepper: Stepper,
        train_data: Sequence[TrainData],
        validation_data: TrainData,
        prefetch: int,
        train_aggregator: TrainAggregator,
        validate_aggregator: ValidateAggregator,
        checkpoint: Path,
        report: Report,
    ) -> None:
        self.config, self.stepper = config, stepper
        self.train_aggregator, self.validate_aggregator = train_aggregator, validate_aggregator
        self.checkpoint, self.report = checkpoint, report
        passes = [passes for passes in config.passes if passes > 0]
        self.samplers = [
            BatchSampler(data.sizes, config.batch_size, config.seed, dict(zip(data.sizes, passes, strict=True)))
            for data in train_data
        ]
        self.train_loaders = [
            Loader(data, sampler, prefetch) for data, sampler in zip(train_data, self.samplers, strict=True)
        ]
        in_order = SequentialBatches(validation_data.sizes, config.batch_size)
        self.validation_loader = Loader(validation_data, in_order, prefetch)
        self.optimizer = torch.optim.AdamW(
            stepper.model.parameters(),
            lr=config.learning_rate,
            betas=config.adam_betas,
            weight_decay=config.weight_decay,
        )
        self.ema = ExponentialMovingAverage(averaged_tensors(stepper.model), decay=config.ema_decay)
        self.epoch = 0
        self.history: list[dict[str, float]] = []

    @property
    def logged(self) -> list[str]:
        """Names of what the history says of an epoch, but for the time that it took."""
        return ["train/learning_rate", *self.train_aggregator.get_logs(), *self.validate_aggregator.get_logs()]

    def resume(self) -> bool:
        """Go back to the saved state, if there is one."""
        if not self.checkpoint.is_file():
            return False
        self.load_state_dict(load_checkpoint(self.checkpoint))
        return True

    def run(self) -> None:
        """Train to the last epoch, saving and reporting after each."""
        while self.epoch < self.config.epochs:
            began = time.perf_counter()
            logs = {**self._train_epoch(), **self._validate()}
            logs["train/seconds"] = time.perf_counter() - began
            self.epoch += 1
            self.history.append(logs)
            save_checkpoint(self.state_dict(), self.checkpoint)
            self.report(self.epoch, logs)

    def _train_epoch(self) -> dict[str, float]:
        phase = self._phase(self.epoch)
        self.samplers[phase].set_epoch(self.epoch)
        self.train_aggregator.reset()
        device = next(self.stepper.model.parameters()).device
        noise = torch.Generator(device).manual_seed(self.config.seed * 1_000_003 + self.epoch)
        steps_before = sum(len(self.samplers[self._phase(epoch)]) for epoch in range(self.epoch))
        with self._progress(len(self.samplers[phase])) as bar:
            for step, batch in enumerate(self.train_loaders[phase], start=steps_before):
                self._set_learning_rate(step)
                output = self.stepper.train_batch(batch, self.config.rollout_calls[phase], noise)
                self._optimise(output.loss)
                self.train_aggregator.record_batch(output, weight=len(batch.prognostic))
                bar.update()
                bar.set_postfix(loss=f"{output.loss.item():.4f}", refresh=False)
        return {"train/learning_rate": self.optimizer.param_groups[0]["lr"], **self.train_aggregator.get_logs()}

    def _phase(self, epoch: int) -> int:
        """Which of the `rollout_calls` an epoch uses."""
        return epoch * len(self.config.rollout_calls) // self.config.epochs

    def _optimise(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(
            self.stepper.model.parameters(), self.config.gradient_clip, error_if_nonfinite=True
        )
        self.optimizer.step()
        self.ema.update()

    def _validate(self) -> dict[str, float]:
        self.validate_aggregator.reset()
        calls = self.config.rollout_calls[-1]
        with self.ema.average_parameters():
            for batch in self.validation_loader:
                output = self.stepper.validate_batch(batch, calls)
                self.validate_aggregator.record_batch(output, weight=len(batch.prognostic))
        return self.validate_aggregator.get_logs()

    def _set_learning_rate(self, step: int) -> None:
        total = sum(len(self.samplers[self._phase(epoch)]) for epoch in range(self.config.epochs))
        rate = self.config.learning_rate * schedule(step, total, self.config.warmup_fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _progress(self, batches: int) -> "tqdm[NoReturn]":
        title = f"epoch {self.epoch + 1}/{self.config.epochs}"
        return tqdm(total=batches, desc=title, unit="batch", leave=False, mininterval=1.0, disable=None)

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the training depends on."""
        return {
            "model": self.stepper.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "epoch": self.epoch,
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.stepper.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.epoch, self.history = state["epoch"], state["history"]


def averaged_tensors(model: torch.nn.Module) -> list[torch.Tensor]:
    """What the moving average covers: the parameters, and the running statistics of normalisation layers with them."""
    statistics = [b for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var"))]
    return [*model.parameters(), *statistics]


def averaged_state_dict(model: torch.nn.Module, ema: ExponentialMovingAverage) -> dict[str, torch.Tensor]:
    """A copy of the model's state with the averages in place of the raw values."""
    with ema.average_parameters():
        return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def schedule(step: int, total: int, warmup_fraction: float) -> float:
    """Share of the highest learning rate: a linear rise, then half a cosine to zero at the end."""
    warmup = int(warmup_fraction * total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))
