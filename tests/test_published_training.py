"""The first 50 steps of a training with the published rules, against the same rules written out here in torch and numpy."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ocean_emulators.config.base import parse
from ocean_emulators.datasets.loading.samplers import BatchSampler
from ocean_emulators.datasets.loading.train_data import Windows
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.experiment import Experiment
from tests import tiny
from tests.trainers import trainer_of

EPOCHS, BATCHES, BATCH, K, SLOTS = 5, 10, 8, 4, 2
RATE, DECAY, LIMIT = 6e-4, 0.999, 20.0


def tree() -> dict[str, Any]:
    """As the preset `om4_onedeg_samudra2` trains, with a network of a few channels."""
    tree = tiny.experiment(
        epochs=EPOCHS,
        batch_size=BATCH,
        rollout_steps=[K],
        optimizer="adam",
        learning_rate=RATE,
        ema_decay=DECAY,
        schedule={"every": "epoch", "warmup_fraction": 0.0},
        loss={"unit": "state", "normalised_by": "all", "over_steps": "sum", "dynamic": {"limit": LIMIT}},
    )
    tree["data"]["periods"]["train"] = {"start": "2000-01-01", "end": "2001-03-21"}
    tree["model"] |= {"norm": "batch", "input_states": SLOTS, "output_states": SLOTS, "forcing_times": [-1, 0]}
    return tree


class Published:
    """The rules of m2lines/Samudra at 018a6a74 (train.py, utils/loss.py, utils/ema.py)."""

    def __init__(self, model: nn.Module, mask: Tensor, accumulation: int) -> None:
        self.model, self.mask, self.accumulation = model, mask, accumulation
        self.optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=EPOCHS)
        self.scale = np.ones(len(mask))
        self.averages = [p.detach().clone() for p in model.parameters()]
        self.updates = 0
        self.losses: list[float] = []

    def raw(self, prognostic: Tensor, forcing: Tensor, steps: int) -> Tensor:
        """[slot, variable]: mean squares over windows and all cells of masked fields, added up over steps."""
        states, total = prognostic[:, :SLOTS], torch.zeros(())
        for k in range(steps):
            first = SLOTS * k
            states = self.model(states, forcing[:, first : first + SLOTS], None)
            truth = prognostic[:, SLOTS + first : 2 * SLOTS + first]
            total = total + ((states * self.mask - truth * self.mask) ** 2).mean((0, 3, 4))
        return total

    def batch(self, prognostic: Tensor, forcing: Tensor) -> None:
        self.model.train()
        micro = zip(prognostic.chunk(self.accumulation), forcing.chunk(self.accumulation), strict=True)
        for number, part in enumerate(micro, start=1):
            loss = (torch.as_tensor(self.scale).float() * self.raw(*part, K)).mean()
            (loss / self.accumulation).backward()
            self.losses.append(loss.item())
            if number == self.accumulation:
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, error_if_nonfinite=True)
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.average()
            with torch.no_grad():
                weight = (1 / self.raw(*part, 1).double().numpy()).mean(0)
            weight = np.clip(weight, weight.min(), weight.min() * LIMIT)
            self.scale = (24 * self.scale + weight) / 25

    def average(self) -> None:
        self.updates += 1
        decay = min(DECAY, (1 + self.updates) / (10 + self.updates))
        for average, p in zip(self.averages, self.model.parameters(), strict=True):
            average -= (1 - decay) * (average - p.detach())


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_first_fifty_losses(accumulation: int, store: PackedStore, statistics: Statistics, tmp_path: Path) -> None:
    configured = tree()
    configured["train"]["accumulation_steps"] = accumulation
    grid = PreparedGrid.of("x1", store, statistics)
    trainer = trainer_of(parse(Experiment, configured, "test"), [grid], tmp_path)
    sampler, windows = trainer.loaders[0].batches, trainer.loaders[0].data.windows["x1"]
    assert isinstance(sampler, BatchSampler) and isinstance(windows, Windows)
    assert (len(windows), len(sampler)) == (BATCH * BATCHES, BATCHES)
    rates, losses = [], []
    inner = trainer.stepper.train_batch

    def train_batch(*args: Any) -> Any:
        output = inner(*args)
        losses.append(output.loss.item())
        rates.append(trainer.optimisation.learning_rate)
        return output

    trainer.stepper.train_batch = train_batch  # type: ignore[method-assign]
    published = Published(copy.deepcopy(trainer.stepper.model), grid.packing.prognostic_mask, accumulation)
    expected_rates: list[float] = []
    for epoch in range(EPOCHS):
        expected_rates += [published.schedule.get_last_lr()[0]] * BATCHES * accumulation
        for draw in sampler.batches(epoch):
            batch = windows.load(draw)
            published.batch(batch.prognostic.clone(), batch.forcing.clone())
        published.schedule.step()
    trainer.run()

    np.testing.assert_allclose(rates, expected_rates, rtol=1e-9)
    assert len(losses) == EPOCHS * BATCHES * accumulation == len(published.losses)
    far = np.abs(np.array(losses) / published.losses - 1).max()
    assert trainer.stepper.loss is not None
    scale = trainer.stepper.loss.scale.numpy()
    apart = np.abs(scale / published.scale - 1).max()
    print(f"losses {losses[0]:.3f} to {losses[-1]:.3f}, at most {far:.1e} apart; weights of channels {apart:.1e}")
    assert far < 1e-5
    assert apart < 1e-5
    assert scale.max() / scale.min() > 2
    _, averaged = trainer.weights()
    for (name, p), average in zip(published.model.named_parameters(), published.averages, strict=True):
        if name.endswith("bias") and "convblock" in name:
            continue  # batch normalisation takes it off again: its gradient is round-off, which Adam makes a step of
        torch.testing.assert_close(averaged[name], average, rtol=1e-4, atol=1e-5, msg=name)
        torch.testing.assert_close(trainer.stepper.model.state_dict()[name], p.detach(), rtol=1e-4, atol=1e-5, msg=name)
