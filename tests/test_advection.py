"""An ocean in which a field is carried around the globe by one cell a step: a tiny model learns it, and rolls it out."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from ocean_emulators.config.base import parse
from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.loading.train_data import Draw
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.datasets.statistics.compute import compute_statistics
from ocean_emulators.datasets.store.packed_store import open_store, store_path
from ocean_emulators.experiment import Experiment
from ocean_emulators.train.trainer import Trainer
from tests import tiny
from tests.trainers import trainer_of

ROLLOUT = 20
SECONDS = 20


def ocean() -> xr.Dataset:
    """The tiny ocean without land, in which `zos` moves east by a cell a step, and other fields are noise."""
    dataset = tiny.dataset()
    rng = np.random.default_rng(1)
    dataset["mask_0"][:] = dataset["mask_1"][:] = True
    waves = np.arange(1, 7)
    lon = np.arange(tiny.N_LON) * 2 * np.pi / tiny.N_LON
    amplitude, phase = rng.normal(size=(tiny.N_LAT, 6)), rng.uniform(0, 2 * np.pi, (tiny.N_LAT, 6))
    first = (amplitude[..., None] * np.cos(waves[:, None] * lon + phase[..., None])).sum(1)
    dataset["zos"][:] = np.stack([np.roll(first, t, axis=1) for t in range(dataset.sizes["time"])])
    dataset["hfds"][:] = rng.normal(size=dataset["hfds"].shape)
    return dataset


def tree_of(source: Path, **train: Any) -> dict[str, Any]:
    tree = tiny.experiment(source, batch_size=8, learning_rate=1e-2, loss={"unit": "state"}, **train)
    tree["data"] |= {"prognostic": ["zos"], "forcing": ["hfds"], "levels": [0]}
    tree["model"] |= {"widths": [6], "dilation": [1]}
    return tree


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("advection") / "ocean.zarr"
    ocean().to_zarr(path, zarr_format=2)
    return path


@pytest.fixture(scope="module")
def grid(source: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedGrid:
    experiment = parse(Experiment, tree_of(source), "test")
    folder = tmp_path_factory.mktemp("data") / "prepared"
    prepare(experiment.data, folder)
    store = open_store(store_path(folder, "x1"))
    return PreparedGrid.of("x1", store, compute_statistics(store, experiment.data.periods.train))


def trainer(source: Path, grid: PreparedGrid, folder: Path, **train: Any) -> Trainer:
    return trainer_of(parse(Experiment, tree_of(source, **train), "test"), [grid], folder)


def rollout_error(trained: Trainer, grid: PreparedGrid, experiment: Experiment) -> list[float]:
    """RMSE after each step, in standard deviations, over four starts of the test period."""
    rows = Rows(grid.store, grid.packing, grid.store.indices(experiment.data.periods.test, "test"), "none")
    data = InferenceDataset(rows, "test", trained.stepper.requirements)
    starts = data.starts(ROLLOUT, 1)[:4]
    with trained.averages.applied():
        predicted = [grid.packing.pack(states) for states in trained.stepper.inference(data, starts, ROLLOUT)]
    std = grid.packing.std[: grid.packing.n_prognostic_cells]
    return [
        float(((states - data.truth(starts, step)) / std).square().mean().sqrt())
        for step, states in enumerate(predicted, start=1)
    ]


@pytest.mark.parametrize(("steps", "one_step", "twenty_steps"), [(1, 0.02, 0.25), (4, 0.04, 0.35)])
def test_it_is_learned(
    steps: int, one_step: float, twenty_steps: float, source: Path, grid: PreparedGrid, tmp_path: Path
) -> None:
    epochs = {1: 24, 4: 14}[steps]
    trained = trainer(source, grid, tmp_path, epochs=epochs, rollout_steps=[steps])
    began = time.process_time()
    trained.run()
    seconds = time.process_time() - began
    errors = rollout_error(trained, grid, parse(Experiment, tree_of(source), "test"))
    print(f"K = {steps}: {errors[0]:.4f} after one step, {errors[-1]:.4f} after {ROLLOUT}, {seconds:.1f} s")
    assert errors[0] < one_step
    assert max(errors) < twenty_steps
    assert seconds < SECONDS


@pytest.mark.parametrize("detach_every", [0, 1, 2])
def test_gradients_stop_where_detached(detach_every: int, source: Path, grid: PreparedGrid, tmp_path: Path) -> None:
    """Against pieces of the rollout that are differentiated one by one, each from a state that is a plain number."""
    stepper = trainer(source, grid, tmp_path, rollout_steps=[4], detach_every=detach_every).stepper
    windows = trainer(source, grid, tmp_path, rollout_steps=[4]).loaders[0].data.windows["x1"]
    batch = windows.load(Draw("x1", [3, 70, 11]))
    model, loss, needs = stepper.model, stepper.loss, stepper.requirements
    assert loss is not None
    output = stepper.train_batch(batch, 4)
    output.loss.backward()
    got = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    def step(states: Tensor, k: int) -> tuple[Tensor, Tensor]:
        forcing = batch.forcing[:, [needs.past + o for o in needs.forcing_offsets(k)]]
        predicted = model(states, forcing, "x1")
        truth = batch.prognostic[:, needs.past + 1 + k][:, None]
        return predicted, (predicted - truth).square().mean()

    model.zero_grad()
    every = detach_every or 4
    states = batch.prognostic[:, needs.past : needs.past + 1]
    for first in range(0, 4, every):
        states = torch.from_numpy(states.detach().numpy())
        piece = torch.zeros(())
        for k in range(first, first + every):
            states, error = step(states, k)
            piece = piece + error / 4
        piece.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert got.keys() == expected.keys() == dict(model.named_parameters()).keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-5, atol=1e-7 * float(gradient.abs().max()), msg=name)
