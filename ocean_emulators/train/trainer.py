"""Training: K-step rollouts with Adam, a cosine schedule, gradient clipping and an average of the weights."""

import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch_ema import ExponentialMovingAverage
from tqdm import tqdm

from ocean_emulators.aggregator.train import TrainAggregator
from ocean_emulators.aggregator.validate import ValidateAggregator
from ocean_emulators.datasets.loading.loader import Loader
from ocean_emulators.datasets.loading.samplers import BatchSampler, SequentialBatches, seed_of_epoch
from ocean_emulators.datasets.loading.train_data import TrainData
from ocean_emulators.errors import UserError, brief
from ocean_emulators.stepper import Stepper
from ocean_emulators.tensors import load_tensors, save_tensors
from ocean_emulators.train.config import TrainConfig
from ocean_emulators.train.schedules import schedule

Report = Callable[[int, dict[str, float]], None]


class BrokenState(UserError):
    """A saved state that a training can't resume from."""


class Trainer:
    """The training loop. Knows its parts, not where they come from.

    `train_data` has one entry for each of `rollout_steps`; `passes` says how often an epoch shows the windows of each grid.

    After each epoch the state is saved to `checkpoint`; a Trainer that resumes from there ends with the weights, bit for
    bit, that an uninterrupted run would have.
    """

    def __init__(
        self,
        config: TrainConfig,
        stepper: Stepper,
        train_data: Sequence[TrainData],
        validation_data: TrainData,
        passes: Mapping[str, float],
        prefetch: int,
        train_aggregator: TrainAggregator,
        validate_aggregator: ValidateAggregator,
        checkpoint: Path,
        report: Report,
    ) -> None:
        self.config, self.stepper = config, stepper
        self.train_aggregator, self.validate_aggregator = train_aggregator, validate_aggregator
        self.checkpoint, self.report = checkpoint, report
        self.samplers = [BatchSampler(data.sizes, config.batch_size, config.seed, passes) for data in train_data]
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
        return ["train/learning_rate", *self.train_aggregator.log_names, *self.validate_aggregator.log_names]

    def resume(self) -> bool:
        """Go back to the saved state, if there is one.

        Raises
        ------
        BrokenState
            If it is damaged, or of another training; the Trainer is as it was.
        """
        if not self.checkpoint.is_file():
            return False
        before = deepcopy(self.state_dict())
        try:
            self.load_state_dict(load_tensors(self.checkpoint))
            self._require_fit()
        except Exception as error:  # what a foreign file holds can fail in any way
            self.load_state_dict(before)
            if isinstance(error.__cause__ or error, OSError | MemoryError | torch.OutOfMemoryError):
                raise  # nothing is wrong with the state
            what = brief(error).removeprefix(f"{self.checkpoint}: ")
            raise BrokenState(f"{self.checkpoint}: can't resume from it: {what}") from error
        return True

    def _require_fit(self) -> None:
        """Raise a ValueError if the state is not one of this training after one of its epochs."""
        moments = [(p, m[k]) for p, m in self.optimizer.state.items() for k in ("exp_avg", "exp_avg_sq")]
        averages = zip(averaged_tensors(self.stepper.model), self.ema.shadow_params, strict=True)
        for own, loaded in (*moments, *averages):
            if own.shape != loaded.shape or not bool(torch.isfinite(loaded).all() and torch.isfinite(own).all()):
                raise ValueError("it holds tensors that are not of this model, or not finite")
        if type(self.epoch) is not int or not 0 < self.epoch == len(self.history) <= self.config.epochs:
            raise ValueError(
                f"it is after epoch {self.epoch} of {self.config.epochs}, with {len(self.history)} recorded"
            )
        if any(set(logs) != {*self.logged, "train/seconds"} for logs in self.history):
            raise ValueError("its history is of other losses")

    def run(self) -> None:
        """Train to the last epoch, saving and reporting after each."""
        while self.epoch < self.config.epochs:
            began = time.perf_counter()
            logs = {**self._train_epoch(), **self._validate()}
            logs["train/seconds"] = time.perf_counter() - began
            self.epoch += 1
            self.history.append(logs)
            save_tensors(self.state_dict(), self.checkpoint)
            self.report(self.epoch, logs)

    def _train_epoch(self) -> dict[str, float]:
        phase = self._phase(self.epoch)
        self.samplers[phase].set_epoch(self.epoch)
        self.train_aggregator.reset()
        device = next(self.stepper.model.parameters()).device
        noise = torch.Generator(device).manual_seed(seed_of_epoch(self.config.seed, self.epoch))
        steps_before = sum(len(self.samplers[self._phase(epoch)]) for epoch in range(self.epoch))
        with self._progress(len(self.samplers[phase])) as bar:
            for step, batch in enumerate(self.train_loaders[phase], start=steps_before):
                self._set_learning_rate(step)
                output = self.stepper.train_batch(batch, self.config.rollout_steps[phase], noise)
                self._optimise(output.loss)
                self.train_aggregator.record_batch(output)
                bar.update()
                bar.set_postfix(loss=f"{output.loss.item():.4f}", refresh=False)
        return {"train/learning_rate": self.optimizer.param_groups[0]["lr"], **self.train_aggregator.get_logs()}

    def _phase(self, epoch: int) -> int:
        """Which of the `rollout_steps` an epoch uses."""
        return epoch * len(self.config.rollout_steps) // self.config.epochs

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
        steps = self.config.rollout_steps[-1]
        with self.ema.average_parameters():
            for batch in self.validation_loader:
                output = self.stepper.validate_batch(batch, steps)
                self.validate_aggregator.record_batch(output)
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
