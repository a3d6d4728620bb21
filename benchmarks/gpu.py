"""Samudra 2 on one GPU: whether results are those of a CPU, then what a training step takes, and what loading adds.

`PYTHONPATH=. python benchmarks/gpu.py`, for a machine with a GPU, and so no part of `make benchmarks`; seven minutes. Each
case stands alone: what fails is a row of the table that says how. `--device cpu --tiny` runs all of it in small. The results
so far are written after each case.
"""

import argparse
import gc
import json
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from gpu_checks import CHECKS
from oceans import ROOT, om4_training, om4_workspace

from ocean_emulators.build import build_trainer, open_grids
from ocean_emulators.config.base import parse
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.cost import Cost, cost_of_model_step
from ocean_emulators.datasets.loading.train_data import Batch
from ocean_emulators.losses.config import LossConfig
from ocean_emulators.losses.grid import LossGrid
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.samudra import SamudraConfig
from ocean_emulators.ocean.fields import channels
from ocean_emulators.runtime import Runtime
from ocean_emulators.stepper import Stepper
from ocean_emulators.testing.coded_ocean import wet_masks
from ocean_emulators.train.averages import Averages
from ocean_emulators.train.config import TrainConfig
from ocean_emulators.train.optimisation import Optimisation
from ocean_emulators.train.parts import Reports
from ocean_emulators.train.throughput import peak_flops_per_second
from ocean_emulators.workspace import Workspace

MODEL_STEPS = 4
SECTIONS = ("check", "matrix product", "step", "loading", "compiled")
NOMINAL_BF16 = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""FLOP/s without sparsity, of data sheets"""
TINY = {"widths": [6, 8], "dilation": [1, 2], "expansion": 1}


@dataclass(frozen=True)
class Case:
    """A kind of training step."""

    preset: str = "samudra_om4_v2"
    precision: str = "bfloat16"
    checkpointing: str = "layers"
    batch: int = 1
    tf32: bool = True
    compile: bool = False
    cudnn_benchmark: bool = True

    @property
    def name(self) -> str:
        """What tells it from others."""
        norm = "instance" if "highres" in self.preset else "batch"
        flags = {"TF32": self.tf32 and self.precision == "float32", "compiled": self.compile}
        flags["cuDNN's choice"] = not self.cudnn_benchmark
        named = [flag for flag, on in flags.items() if on]
        return ", ".join([f"{norm} norm", self.precision, f"keeps {self.checkpointing}", f"batch {self.batch}", *named])


CASES = [
    Case(),
    Case(precision="float32"),
    Case(precision="float32", tf32=False),
    Case(precision="float16"),
    Case(checkpointing="convolutions"),
    Case(checkpointing="none"),
    Case(batch=4),
    Case(batch=4, cudnn_benchmark=False),
    Case("samudra_om4_v2_highres"),
]
COMPILED = [
    Case(compile=True, batch=8),
    Case(compile=True),
    Case("samudra_om4_v2_highres", compile=True),
]


@dataclass
class Bench:
    """The options, and the rows so far."""

    device: torch.device
    tiny: bool
    json: Path | None
    deadline: float
    only: tuple[str, ...]
    peaks: dict[str, float] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int]:
        """(lat, lon)"""
        return (16, 32) if self.tiny else (180, 360)

    def attempt(self, section: str, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """A row of the table, whatever happens."""
        if section not in self.only:
            return
        row: dict[str, Any] = {"section": section, "name": name}
        began = time.monotonic()
        try:
            row |= work() if began < self.deadline else {"failed": "left out: no time left"}
        except Exception:
            row["failed"] = " | ".join(traceback.format_exc().strip().splitlines()[-3:])[-600:]
        row["took"] = time.monotonic() - began
        self.rows.append(row)
        print({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        if self.json:
            self.json.write_text(json.dumps(self.rows, indent=1, default=str) + "\n")

    def wait(self) -> None:
        """Until the device has done what was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def context(shape: tuple[int, int]) -> OceanContext:
    """OM4's levels: 77 predicted and 4 forcing channels, with continents."""
    lat = (np.arange(shape[0]) + 0.5) * 180 / shape[0] - 90
    lon = (np.arange(shape[1]) + 0.5) * 360 / shape[1]
    wet = wet_masks(lat, lon, 19)
    prognostic = channels(["uo", "vo", "thetao", "so", "zos"], list(range(19)))
    mask = torch.from_numpy(np.stack([wet[channel.mask_level] for channel in prognostic]))
    return OceanContext(len(prognostic), 4, mask, torch.tensor(lat), torch.tensor(lon), torch.ones(len(prognostic)))


def model_config(case: Case, tiny: bool) -> SamudraConfig:
    """The preset, as the case changes it."""
    path = ROOT / "configs" / "model" / f"{case.preset}.yaml"
    tree: Any = load_yaml(path)
    tree |= {"precision": case.precision, "checkpointing": case.checkpointing, "compile": case.compile}
    tree.pop("type")
    return parse(SamudraConfig, tree | (TINY if tiny else {}), str(path))


def cost(case: Case, tiny: bool, shape: tuple[int, int]) -> Cost:
    """What the plan says; in a process of its own, it takes seconds."""
    torch.set_num_threads(1)
    return cost_of_model_step(model_config(case, tiny), [context(shape)])


def step_of(bench: Bench, case: Case) -> tuple[Callable[[], None], int]:
    """A whole optimiser step on a batch in memory, as the Trainer makes it; and the batch's bytes."""
    ocean, config, device = context(bench.shape), model_config(case, bench.tiny), bench.device
    train = parse(TrainConfig, {"epochs": 1, "batch_size": 1, "rollout_steps": [1], "learning_rate": 6e-4}, "")
    torch.manual_seed(0)
    model = config.build(ocean).to(device)
    fields = tuple(c.field.name for c in channels(["uo", "vo", "thetao", "so", "zos"], list(range(19))))
    one = torch.ones(ocean.n_prognostic)
    grid = LossGrid(ocean, fields, one, torch.ones(ocean.grid_shape), ocean.mask.double())
    stepper = Stepper(model, config, LossConfig().build({ocean.name: grid}).to(device))
    optimisation = Optimisation(train, model, scaled=case.precision == "float16")
    averages = Averages(model, 0.999)
    length = config.requirements.length(MODEL_STEPS)
    mask = ocean.mask.to(device)
    prognostic = torch.randn(case.batch, length, ocean.n_prognostic, *bench.shape, device=device) * mask
    forcing = torch.randn(case.batch, length, ocean.n_forcing, *bench.shape, device=device)
    batch = Batch(prognostic, forcing)

    def step() -> None:
        output = stepper.train_batch(batch, MODEL_STEPS)
        optimisation.backward(output.loss)
        optimisation.step()
        averages.update()

    return step, prognostic.nbytes + forcing.nbytes


def measure_step(bench: Bench, case: Case, planned: Future[Cost]) -> dict[str, Any]:
    """Time, arithmetic and memory of a step."""
    cuda = bench.device.type == "cuda"
    Runtime(device=bench.device.type, tf32=case.tf32, cudnn_benchmark=case.cudnn_benchmark).start()
    torch.compiler.reset()
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else 0
    step, batch_bytes = step_of(bench, case)

    def timed() -> float:
        began = time.perf_counter()
        step()
        bench.wait()
        return time.perf_counter() - began

    first, _ = timed(), timed()
    few = 2 if bench.tiny else 8 if first < 3 or case.compile else 4
    seconds = statistics.median(timed() for _ in range(few))
    plan = planned.result()
    speed = plan.training_flops * MODEL_STEPS * case.batch / seconds
    row = {"first_s": first, "step_s": seconds, "TFLOP/s": speed / 1e12}
    if "bfloat16" in bench.peaks:
        row["peak"] = speed / bench.peaks["bfloat16"]
    nominal = next((v for k, v in NOMINAL_BF16.items() if cuda and k in torch.cuda.get_device_name()), None)
    if nominal:
        row["nominal"] = speed / nominal
    if cuda:
        used = torch.cuda.max_memory_allocated() - before
        expected = plan.training_bytes(MODEL_STEPS, case.batch) + batch_bytes
        row |= {"GiB": used / 2**30, "/plan": used / expected, "reserved": torch.cuda.max_memory_reserved() / 2**30}
    return row


def measure_peak(bench: Bench, name: str) -> dict[str, Any]:
    """Of matrix products; `tfloat32` is float32 with TF32."""
    Runtime(device=bench.device.type, tf32=name == "tfloat32").start()
    precision: Any = name.removeprefix("t") if name == "tfloat32" else name
    bench.peaks[name] = peak_flops_per_second(bench.device, precision, 64 if bench.tiny else None)
    return {"TFLOP/s": bench.peaks[name] / 1e12}


def measure_loader(bench: Bench, store: Future[Workspace], times: int, cache: str, batch: int) -> dict[str, Any]:
    """An epoch of loading alone, then a training of one epoch as a user runs it."""
    workspace = store.result()
    runtime = parse(Runtime, {"device": bench.device.type, "cache": cache, "prefetch": 2}, "")
    runtime.start()
    model: dict[str, Any] = {"precision": "bfloat16"} | (TINY if bench.tiny else {})
    train = {"batch_size": batch, "rollout_steps": [MODEL_STEPS]}
    sections = om4_training(workspace, times, 10, model, train)
    told: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        grids = open_grids(workspace, sections, bench.device)
        reports = Reports(lambda number, logs: told.update(logs))
        began = time.perf_counter()
        trainer = build_trainer(sections, grids, runtime, workspace, Path(folder) / "states", reports)
        assert trainer.throughput
        trainer.throughput.after_s = 0.0
        built = time.perf_counter() - began
        loader = trainer.loaders[0]
        windows = loader.data.sizes["x1"]
        began = time.perf_counter()
        for _ in loader:
            pass
        bench.wait()
        alone = time.perf_counter() - began
        trainer.run()
    row = {"build_s": built, "samples/s alone": windows / alone}
    spent = {part: told[f"train/time/{part}"] for part in ("data", "compute", "validation", "checkpoint", "tracking")}
    row |= {f"{part}_s": seconds for part, seconds in spent.items()}
    row["samples/s trained"] = windows / (spent["data"] + spent["compute"])
    row["waiting"] = spent["data"] / (spent["data"] + spent["compute"])
    return row | {"step_s": spent["compute"] / len(loader), "peak": told["train/compute/share_of_peak"]}


def run(bench: Bench, folder: Path) -> None:
    """All of it: first what must be known, last what takes longest."""
    times = 100 if bench.tiny else 150
    with ProcessPoolExecutor(5, get_context("spawn")) as pool:
        store = pool.submit(om4_workspace, folder / "om4", bench.shape, times, 10)
        cases = CASES + COMPILED
        kinds = {(c.preset, c.precision, c.checkpointing): c for c in reversed(cases)}
        plans = {kind: pool.submit(cost, case, bench.tiny, bench.shape) for kind, case in kinds.items()}
        for name, check in CHECKS.items():
            bench.attempt("check", name, lambda: check(bench.device, folder / "checks"))  # noqa: B023
        for name in ("bfloat16", "float16", "tfloat32", "float32"):
            bench.attempt("matrix product", name, lambda: measure_peak(bench, name))  # noqa: B023

        def steps(section: str, cases: list[Case]) -> None:
            for case in cases:
                plan = plans[case.preset, case.precision, case.checkpointing]
                bench.attempt(section, case.name, lambda: measure_step(bench, case, plan))  # noqa: B023

        steps("step", CASES)
        for cache, batch in (("device", 1), ("host", 1), ("host", 4), ("none", 1)):
            label = f"cache: {cache}, batch {batch}"
            bench.attempt("loading", label, lambda: measure_loader(bench, store, times, cache, batch))  # noqa: B023
        steps("compiled", COMPILED)


def main() -> None:
    """Prints a row after each case, and tables at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a small grid and model, to see that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="these parts alone")
    parser.add_argument("--minutes", type=float, default=6.0, help="begin no case later than this")
    options = parser.parse_args()
    device = Runtime(device=options.device).start()
    bench = Bench(device, options.tiny, options.json, time.monotonic() + 60 * options.minutes, tuple(options.only))
    card = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    bench.rows.append({"section": "machine", "name": card, "torch": torch.__version__})
    with tempfile.TemporaryDirectory() as folder:
        run(bench, Path(folder))
    table = pd.DataFrame(bench.rows)
    for section, part in table.groupby("section", sort=False):
        print(f"\n{section}")
        print(
            part.drop(columns="section").dropna(axis=1, how="all").to_string(index=False, float_format="{:.3g}".format)
        )


if __name__ == "__main__":
    main()
