"""A training that is killed again and again, at random moments, ends to the bit as one that was not."""

import multiprocessing
import random
import shutil
import time
from pathlib import Path

import pytest
import torch

from ocean_emulators.build import open_grids
from ocean_emulators.config.base import parse
from ocean_emulators.experiment import Experiment
from ocean_emulators.runtime import Runtime
from ocean_emulators.workspace import Workspace
from tests import tiny
from tests.pipeline import new_workspace, run_stage
from tests.trainers import history_of, trainer_of

KILLS = 20
TRAIN = {
    "epochs": 8,
    "rollout_steps": [1, 2],
    "rollout_probabilities": [0.5, 0.5],
    "accumulation_steps": 2,
    "input_noise": 0.2,
    "loss": {"dynamic": {"limit": 20}},
    "hand_on": "best",
}


def train(workspace: Workspace, folder: Path) -> None:
    """Train, or go on, with a state after every few steps; what comes out lies in `folder/end.pt`."""
    torch.set_num_threads(1)
    tree = tiny.experiment(workspace.root / "tiny.zarr", **TRAIN)
    tree["model"] |= {"norm": "batch", "widths": [6], "dilation": [1]}
    experiment = parse(Experiment, tree, "test")
    grids = open_grids(workspace, experiment.training, torch.device("cpu"))
    runtime = Runtime(device="cpu", checkpoint_steps=3)
    trainer = trainer_of(experiment, list(grids.values()), folder, workspace=workspace, runtime=runtime)
    trainer.resume()
    trainer.run()
    end = {"history": history_of(trainer), "weights": trainer.weights(), "loss": trainer.stepper.loss.state_dict()}  # type: ignore[union-attr]
    torch.save(end, folder / "end.pt")


@pytest.mark.slow
def test_twenty_kills_at_random_moments(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path / "project")
    for stage in ("prepare", "stats"):
        run_stage(workspace, stage)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    whole = processes.Process(target=train, args=(workspace, tmp_path / "whole"))
    whole.start()
    whole.join()
    assert whole.exitcode == 0
    seed = time.time_ns() % 2**32
    print(f"seed {seed}")
    moments, began, folder = random.Random(seed), time.monotonic(), tmp_path / "killed"
    kills = torn = 0
    while kills < KILLS:
        process = processes.Process(target=train, args=(workspace, folder))
        process.start()
        while not list(folder.glob("[0-9]*.pt")) and process.is_alive():
            time.sleep(0.001)
        process.join(moments.uniform(0, 1.5))
        if process.exitcode is not None:  # it came to its end: the last states are where it is killed next
            assert process.exitcode == 0
            shutil.rmtree(folder)
            continue
        process.kill()
        process.join()
        kills += 1
        torn += len(list(folder.glob("*.partial")))
    while not (folder / "end.pt").exists():
        process = processes.Process(target=train, args=(workspace, folder))
        process.start()
        process.join()
        assert process.exitcode == 0
    one, other = (torch.load(path / "end.pt", weights_only=False) for path in (tmp_path / "whole", folder))
    assert one["history"] == other["history"]
    for a, b in zip((*one["weights"], one["loss"]), (*other["weights"], other["loss"]), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    print(f"{KILLS} kills in {time.monotonic() - began:.0f} s, with {torn} files half written")
    assert not list(folder.glob("damaged-*"))
