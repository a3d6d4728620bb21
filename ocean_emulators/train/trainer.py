"""The training loop: it turns the crank, and knows its parts, not where they come from."""

import signal
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cached_property, partial, reduce
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor
from torch.utils._pytree import tree_map

from ocean_emulators.aggregator.train import TrainAggregator
from ocean_emulators.datasets.loading.loader import Loader
from ocean_emulators.datasets.loading.samplers import BatchSampler, seed_of
from ocean_emulators.datasets.loading.train_data import Batch
from ocean_emulators.distributed import ALONE, Ranks
from ocean_emulators.errors import Interrupted, UserError
from ocean_emulators.stepper import BatchOutput, Stepper
from ocean_emulators.tensors import load_tensors
from ocean_emulators.train.averages import Averages
from ocean_emulators.train.checkpoint_store import CheckpointStore
from ocean_emulators.train.config import TrainConfig
from ocean_emulators.train.ledger import Ledger
from ocean_emulators.train.not_finite import first_cause
from ocean_emulators.train.optimisation import NotFiniteError, Optimisation
from ocean_emulators.train.parts import CADENCE, FIRST_STEPS, QUIET, START_LOSS, Cadence, Place, Reports
from ocean_emulators.train.profiling import StepProfile
from ocean_emulators.train.progress import Progress
from ocean_emulators.train.rollout_steps import Phases
from ocean_emulators.train.selection import Best
from ocean_emulators.train.stopping import StopRequest
from ocean_emulators.train.throughput import Throughput
from ocean_emulators.train.validation import Validation

_FORMAT = 4


class Trainer:
    """Trains an emulator, alone or as one rank of several.

    The state is saved to `store` now and then and at the end of each epoch; a Trainer that resumes from there ends, bit for
    bit, as one that was not interrupted. Signals (see `StopRequest`) end `run` with `Interrupted` after the state is saved.
    """

    def __init__(
        self,
        config: TrainConfig,
        stepper: Stepper,
        loaders: Sequence[Loader],
        validation: Validation,
        optimisation: Optimisation,
        averages: Averages,
        aggregator: TrainAggregator,
        store: CheckpointStore,
        reports: Reports = QUIET,
        ranks: Ranks = ALONE,
        cadence: Cadence = CADENCE,
        throughput: Throughput | None = None,
        profile: Path | None = None,
    ) -> None:
        """There is a loader for each of `Phases`; `profile` is a file that a trace of some steps is written to."""
        self.config, self.stepper, self.loaders, self.validation = config, stepper, loaders, validation
        self.optimisation, self.averages, self.train_aggregator = optimisation, averages, aggregator
        self.store, self.reports, self.ranks, self.cadence = store, reports, ranks, cadence
        self.throughput, self.profile = throughput, StepProfile(profile)
        self.phases = Phases(config)
        self.place, self.best = Place(), Best(config.best_by, store.folder / "best.pt")
        self.stop, self.ledger = StopRequest(), Ledger()
        self._saved = time.monotonic()

    # The crank

    def run(self, epochs: int | None = None) -> None:
        """Train to the last epoch, or for so many alone.

        Raises
        ------
        Interrupted
            If a signal asked to stop; the state is saved.
        UserError
            If a loss or a gradient is not finite.
        """
        if self.throughput:
            self.throughput.begin()
        self.ledger.seconds["start"] = self.ledger.total
        with self.stop.listening(), self.profile:
            # An epoch that has begun is ended, as it is where nothing interrupts it.
            while self.place.epoch < (epochs or self.config.epochs) and (self.place.position or not self.over):
                self._epoch()
        self.store.wait()

    @property
    def over(self) -> bool:
        """Whether training has come to its end early."""
        early = self.config.early_stopping
        return early is not None and self.best.waited >= early.patience

    def _epoch(self) -> None:
        began, before = time.perf_counter(), self.place.seconds

        def elapsed() -> float:
            return before + time.perf_counter() - began

        self._train_epoch(elapsed)
        logs = {"train/learning_rate": self.optimisation.learning_rate, **self.train_aggregator.get_logs()}
        logs |= self._validate(elapsed) if self._validates_epoch else {}
        logs["train/seconds"] = elapsed()
        self.place.epoch, self.place.position, self.place.seconds = self.place.epoch + 1, 0, 0.0
        self.place.history.append(logs)
        self.train_aggregator.reset()
        self._choose(logs)
        self.save()
        with self.ledger.on("tracking"):
            machine = self.throughput.logs(self.ledger) if self.throughput else {}
            self.reports.epoch(self.place.epoch, logs | machine)

    def _train_epoch(self, elapsed: Callable[[], float]) -> None:
        loader = self.loader
        self._sampler(self.place.epoch).set_epoch(self.place.epoch, self.place.position)
        self._validate_within(elapsed)  # where a state was saved before that was done
        title = f"epoch {self.place.epoch + 1}/{self.config.epochs}"
        with Progress(title, len(loader), self.place.position, self.ledger, self.ranks.first) as progress:
            for batch in self.ledger.waiting(loader):
                with self.ledger.on("compute"):
                    output = self.train_batch(batch)
                self.place.position += 1
                self.place.step += 1
                self.profile.step()
                progress.update(batch.draw.total or len(batch))
                self._tell(progress, output)
                self._validate_within(elapsed)
                self._heed(elapsed)

    def _tell(self, progress: Progress, output: BatchOutput) -> None:
        every = self.cadence.log_steps
        numbers = self.train_aggregator.recent() if every and self.place.step % every == 0 else {}
        numbers |= progress.tell(float(output.loss.detach())) if progress.due else {}
        # By which another training is found to be the same, or not, in seconds.
        numbers |= {START_LOSS: float(output.loss.detach())} if self.place.step <= FIRST_STEPS else {}
        if numbers:
            with self.ledger.on("tracking"):
                self.reports.progress(self.place.step, numbers)

    def train_batch(self, batch: Batch) -> BatchOutput:
        """An optimiser step; what came of the last of the batch's parts."""
        self.optimisation.set_learning_rate(*self._scheduled())
        total = batch.draw.total or len(batch)
        # As many on each rank, since the weights of a loss may be shared after each.
        parts = batch.split(max(1, min(self.config.accumulation_steps, total // self.ranks.world_size)))
        steps = batch.draw.model_steps or self.phases.phases[self.phases.of(self.place.epoch)].longest
        outputs, before = [], self._beside_weights() if self.config.skip_nonfinite else {}
        for part in parts:
            output = self.stepper.train_batch(part, steps, self._generators(part))
            self.optimisation.backward(output.loss * (len(part) / total), last=part is parts[-1])
            outputs.append(output)
            if self.throughput:
                self.throughput.count(part.grid, steps * len(part))
            if part is not parts[-1]:
                self._observe(part, output)
        try:
            changed = self.optimisation.step()
        except NotFiniteError as error:
            self._skip(batch, parts, outputs, error)
            self.stepper.model.load_state_dict(before, strict=False)
        else:
            if changed:
                self.averages.update()
            self._observe(parts[-1], outputs[-1])
            for output in outputs:
                self.train_aggregator.record_batch(output)
        return outputs[-1]

    def _beside_weights(self) -> dict[str, Tensor]:
        """A copy of what a batch changes in the model before the optimiser's step: the statistics of normalisation layers."""
        weights = {name for name, _ in self.stepper.model.named_parameters()}
        return {n: t.clone() for n, t in self.stepper.model.state_dict().items() if n not in weights}

    def _observe(self, batch: Batch, output: BatchOutput) -> None:
        """Show losses to a loss that weighs channels by them."""
        dynamic = self.config.loss.dynamic
        assert self.stepper.loss is not None
        if dynamic is not None:
            fresh = dynamic.estimate == "fresh"
            self.stepper.loss.observe(self.stepper.probe_batch(batch) if fresh else output.losses, self.ranks)

    def _generators(self, batch: Batch) -> list[torch.Generator]:
        """Of the input noise: one a window, so that it is the same whichever rank and micro-batch the window is in."""
        if not self.stepper.input_noise:
            return []
        device, where = batch.prognostic.device, (self.config.seed, self.place.epoch, self.place.position)
        seeds = (seed_of(*where, batch.draw.first + window) for window in range(len(batch)))
        return [torch.Generator(device).manual_seed(seed) for seed in seeds]

    @property
    def loader(self) -> Loader:
        """Of the epoch at hand."""
        return self.loaders[self.phases.of(self.place.epoch)]

    def _sampler(self, epoch: int) -> BatchSampler:
        sampler = self.loaders[self.phases.of(epoch)].batches
        assert isinstance(sampler, BatchSampler)
        return sampler

    def _scheduled(self) -> tuple[int, int]:
        """Where the schedule is, and how long it is."""
        epochs = self.config.epochs
        if self.config.schedule.every == "epoch":
            return self.place.epoch, epochs
        return self.place.step, self.batches

    @cached_property
    def batches(self) -> int:
        """Number of batches, and so of optimiser steps, in all epochs."""
        return sum(len(self._sampler(epoch)) for epoch in range(self.config.epochs))

    def _skip(
        self, batch: Batch, parts: Sequence[Batch], outputs: Sequence[BatchOutput], error: NotFiniteError
    ) -> None:
        """Leave a batch out, or raise a UserError that names what was not finite."""
        self.place.skipped += 1
        if self.place.skipped <= self.config.skip_nonfinite:
            return
        cause = first_cause(parts, outputs, self.loader.data.windows[batch.grid], self.ranks)
        what = cause or f"the gradient {error}".rstrip()
        left_out = f", after {self.config.skip_nonfinite} that were left out" if self.config.skip_nonfinite else ""
        raise UserError(
            f"epoch {self.place.epoch + 1}, batch {self.place.position + 1} of {len(self.loader)}: {what} "
            f"is not finite{left_out}; the weights are as they were before it, and the last saved state is kept. A lower "
            f"train.learning_rate (it is {self.optimisation.learning_rate:g} here), a longer warm-up "
            "(train.schedule.warmup_fraction) or shorter rollouts (train.rollout_steps) help; train.skip_nonfinite leaves such "
            "batches out"
        )

    # Validation

    @property
    def _validates_epoch(self) -> bool:
        """Whether there is a validation at the end of the epoch at hand."""
        epoch = self.place.epoch + 1
        return epoch % self.config.validate_every == 0 or epoch == self.config.epochs

    def _validate_within(self, elapsed: Callable[[], float]) -> None:
        """After every so many steps, but for those that end an epoch which has a validation at its end."""
        place, every = self.place, self.config.validate_steps
        if not every or place.step % every or place.validated == place.step:
            return
        if place.position == len(self.loader) and self._validates_epoch:
            return
        logs = self._validate(elapsed)
        self._choose(logs)
        with self.ledger.on("tracking"):
            self.reports.progress(place.step, logs)

    def _validate(self, elapsed: Callable[[], float]) -> dict[str, float]:
        with self.ledger.on("validation"), self.averages.applied():
            logs = self.validation.logs(lambda: self.stop.by is not None)
        if logs is None:
            self._heed(elapsed)  # with the raw weights in the model
            raise AssertionError("a request to stop was heeded")
        self.place.validated = self.place.step
        return logs

    def validation_maps(self, averaged: dict[str, Tensor]) -> dict[str, xr.Dataset]:
        """Maps of a validation with averaged weights, by the name of the grid; none where nothing was learned.

        The model has these weights afterwards. All ranks must ask for them together.
        """
        if not self.place.epoch:
            return {}
        self.stepper.model.load_state_dict(averaged)
        return self.validation.maps()

    def _choose(self, logs: dict[str, float]) -> None:
        if "val/mean/loss" in logs:
            self.optimisation.plateaus.see(logs["val/mean/loss"])
        better = self.best.by in logs and self.best.see(self.place.step, logs)
        if better and self.config.hand_on == "best" and self.ranks.first:
            self.best.keep(self.stepper.model.state_dict(), self.averages.averaged_state())

    def weights(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Copies of the raw and the averaged weights that are handed on."""
        if self.config.hand_on == "best" and self.best.step:
            return self.best.kept()
        raw = {name: tensor.clone() for name, tensor in self.stepper.model.state_dict().items()}
        return raw, self.averages.averaged_state()

    # The state

    def _heed(self, elapsed: Callable[[], float]) -> None:
        """Save the state where it is due on any rank, or stop where any rank was asked to."""
        cadence = self.cadence
        due = time.monotonic() - self._saved > cadence.save_s
        due |= cadence.save_steps is not None and self.place.step % cadence.save_steps == 0
        stop, save = self.ranks.any(self.stop.by is not None, due)
        if not (stop or save):
            return
        self.place.seconds = elapsed()
        self.save()
        if not stop:
            return
        asked = next(filter(None, self.ranks.gather(self.stop.by)), signal.SIGTERM.name)
        self.ranks.leave()  # first: the others would wait for one that is writing
        self.store.wait(must=True)
        raise Interrupted(
            f"stopped by {asked} in epoch {self.place.epoch + 1} of {self.config.epochs}, after {self.place.position} of "
            f"{len(self.loader)} batches; the state is saved"
        )

    def save(self) -> None:
        """Save the state, in the background."""
        with self.ledger.on("checkpoint"):
            state = self.state_dict()
            if self.ranks.first:
                self.store.save(state, self.place.step)
        self._saved = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the training depends on; to be asked for on all ranks at the same place."""
        own = {"random": torch.get_rng_state(), "train_aggregator": self.train_aggregator.state_dict()}
        if torch.cuda.is_available():
            own["random_cuda"] = torch.cuda.get_rng_state()
        assert self.stepper.loss is not None
        return {
            "format": _FORMAT,
            "place": vars(self.place) | {"history": deepcopy(self.place.history)},
            "model": self.stepper.model.state_dict(),
            "averages": self.averages.state_dict(),
            "optimisation": self.optimisation.state_dict(),
            "loss": self.stepper.loss.state_dict(),
            "best": self.best.state_dict(),
            "ranks": self.ranks.gather(own),
        }

    def resume(self) -> bool:
        """Go back to the newest saved state that is whole and of this training, if there is one.

        Where none is, the Trainer is as it was.
        """
        before = deepcopy(self.state_dict())

        def accept(state: dict[str, Any]) -> None:
            try:
                self.load_state_dict(state)
                self._require_fit()
            except Exception:
                self.load_state_dict(before)
                raise

        # The first rank chooses, since it puts damaged files aside.
        chosen = self.store.load_newest(accept) if self.ranks.first else None
        file = self.ranks.gather(chosen)[0]
        if file is not None and not self.ranks.first:
            accept(load_tensors(file))
        return file is not None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`; with another number of ranks, what random numbers were drawn is forgotten."""
        if state["format"] != _FORMAT:
            raise ValueError(f"it is of format {state['format']}, where this version writes {_FORMAT}")
        assert self.stepper.loss is not None
        self.stepper.model.load_state_dict(state["model"])
        self.averages.load_state_dict(state["averages"])
        self.optimisation.load_state_dict(state["optimisation"])
        self.stepper.loss.load_state_dict(state["loss"])
        self.best.load_state_dict(state["best"])
        self.place = Place(**deepcopy(state["place"]))
        of_ranks = state["ranks"]
        if len(of_ranks) == self.ranks.world_size:
            own = of_ranks[self.ranks.rank]
            torch.set_rng_state(own["random"])
            if "random_cuda" in own and torch.cuda.is_available():
                torch.cuda.set_rng_state(own["random_cuda"])
            self.train_aggregator.load_state_dict(own["train_aggregator"])
        elif self.ranks.first:
            sums = (rank["train_aggregator"] for rank in of_ranks)
            self.train_aggregator.load_state_dict(reduce(partial(tree_map, torch.add), sums))
        else:
            self.train_aggregator.reset()

    @property
    def logged(self) -> list[str]:
        """Names of what the history says of an epoch, but for the time that it took."""
        return ["train/learning_rate", *self.train_aggregator.log_names, *self.validation.log_names]

    def _require_fit(self) -> None:
        """Raise a ValueError if the state is not one of this training."""
        place = self.place
        if type(place.epoch) is not int or not 0 <= place.epoch == len(place.history) <= self.config.epochs:
            raise ValueError(
                f"it is after epoch {place.epoch} of {self.config.epochs}, with {len(place.history)} recorded"
            )
        if not all(set(self.train_aggregator.log_names) <= set(logs) for logs in place.history):
            raise ValueError("its history is of other losses")
        if any(not bool(torch.isfinite(p).all()) for p in self.stepper.model.parameters()):
            raise ValueError("it holds weights that are not finite")
