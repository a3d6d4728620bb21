"""The data layer against the memory and the store that it can't be faster than, and against the straightforward way.

Makes OM4-shaped stores, prepares them, and reads training windows as the published system has them: two states in and two
out, four model steps, so ten times of 81 fields. Times are measured in turns, in one run, on all cores.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
import zarr
from table import Result, ratio, run, seconds

from ocean_emulators.config.base import parse
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.loading.loader import Loader
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.loading.rows import Cache, Rows
from ocean_emulators.datasets.loading.samplers import BatchSampler
from ocean_emulators.datasets.loading.train_data import Batch, Draw, TrainData, Windows
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.requirements import DataRequirements
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore, open_store, store_path
from ocean_emulators.datasets.store.writing import times_per_file
from ocean_emulators.parallel import Resources
from ocean_emulators.testing.coded_ocean import om4_periods, write_om4

NEEDS, MODEL_STEPS = DataRequirements(2, 2, (-1, 0)), 4
LENGTH = NEEDS.length(MODEL_STEPS)
GRIDS = {"1°": (180, 360), "1/2°": (360, 720), "1/4°": (720, 1440)}
TIMES = {"1°": 72, "1/2°": 16, "1/4°": 14}
SIXTY_YEARS = 60 * 73
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Prepared:
    """A source and its packed store."""

    source: Path
    config: DataConfig
    store: PackedStore

    def windows(self, cache: Cache) -> Windows:
        """All windows of the training period."""
        names = tuple(c.name for c in self.store.channels)
        one = np.ones(len(names))
        packing = Packing.of(self.store, Statistics(0.1 * one, 2 * one, one, np.zeros((1, 1), "f4"), names, ""))
        rows = Rows(self.store, packing, self.store.indices(self.config.periods.train, "train"), cache)
        return Windows(rows, "train", NEEDS, MODEL_STEPS)


def make(folder: Path, grid: str, times: int, storage: str = "float32") -> Prepared:
    """An OM4-shaped source of so many times, chunked as published, and its packed store."""
    source = folder / f"{GRIDS[grid][0]}.zarr"
    if not source.exists():
        write_om4(source, GRIDS[grid], times)
    config = data_config(source, times, storage)
    into = folder / f"{source.stem}_{storage}"
    prepare(config, into)
    return Prepared(source, config, open_store(store_path(into, "x1")))


def data_config(source: Path, times: int, storage: str = "float32", held_out: int = 1) -> DataConfig:
    """All fields and levels; the last times to test, as many before them to validate, and all others for training."""
    tree = {
        "source": str(source),
        "prognostic": ["uo", "vo", "thetao", "so", "zos"],
        "forcing": ["tauuo", "tauvo", "hfds", "hfds_anomalies"],
        "levels": list(range(19)),
        "anomaly_period": "all",
        "storage": storage,
        "periods": om4_periods(times, held_out),
    }
    return parse(DataConfig, tree, "benchmark")


def loading(windows: Windows) -> Callable[[], Batch]:
    """Makes one window after another in the same memory."""
    order, buffer = cycle(range(0, len(windows), 5)), windows.buffer(1)
    return lambda: windows.load(Draw("x1", [next(order)]), buffer)


def copying(prepared: Prepared) -> Callable[[], object]:
    """Copies as many bytes as a dense window has."""
    dense = torch.randn(LENGTH, *prepared.store.mask.shape)
    target = torch.empty_like(dense)
    return lambda: target.copy_(dense)


def straightforward(prepared: Prepared) -> Callable[[], torch.Tensor]:
    """Each variable by itself through xarray and dask, then stacked, normalised and freed of NaN."""
    times = xr.coders.CFDatetimeCoder(use_cftime=True)
    dataset = xr.open_zarr(prepared.source, chunks={}, decode_times=times)
    names = [c.name if c.name in dataset else str(c.field.anomaly_of) for c in prepared.store.channels]
    order = cycle(range(0, len(prepared.store.time) - LENGTH, 5))

    def load() -> torch.Tensor:
        part = dataset[names].isel(time=slice(first := next(order), first + LENGTH))
        fields = torch.from_numpy(np.stack([part[name].values for name in names], axis=1))
        return torch.nan_to_num((fields - 0.1) / 2)

    return load


def iterating(windows: Windows) -> Callable[[], object]:
    """An epoch of windows from a loader that prefetches."""
    loader = Loader(TrainData({"x1": windows}), BatchSampler({"x1": len(windows)}, 1, seed=0), prefetch=2)

    def epoch() -> None:
        for _ in loader:
            pass

    return epoch


def repeated(function: Callable[[], object], times: int) -> Callable[[], object]:
    """Calls a function so many times."""

    def call() -> None:
        for _ in range(times):
            function()

    return call


def measure_loading(prepared: Prepared, repeats: int) -> list[Result]:
    """At 1°, against a copy of the same bytes and against the straightforward way."""
    copy, held, stored = copying(prepared), prepared.windows("host"), prepared.windows("none")
    n = max(repeats, 9)
    return [
        Result("1°: window from the host cache / copying its bytes", ratio(loading(held), copy, n), 2.0),
        Result("1°: window from the store / copying its bytes", ratio(loading(stored), copy, n), 4.0),
        Result(
            "1°: epoch of a loader on the store / copying its bytes",
            ratio(iterating(stored), repeated(copy, len(stored)), 3),
            4.0,
        ),
        Result(
            "1°: window from the store / xarray by variable with dask",
            ratio(loading(stored), straightforward(prepared), max(3, repeats // 5)),
            1 / 20,
        ),
    ]


def measure_bytes(folder: Path, prepared: Prepared) -> list[Result]:
    """What is read of a window, without a cache."""
    dense = 4 * prepared.store.mask.size
    stores = {"float32": prepared.store, "float16": make(folder, "1°", len(prepared.store.time), "float16").store}
    return [
        Result(f"1°: bytes read of a {name} store / bytes of the dense window", store.shards.row_bytes / dense, bar)
        for (name, store), bar in zip(stores.items(), (1.0, 0.5), strict=True)
    ]


def measure_flatness(folder: Path, grid: str, at_1: dict[str, float], repeats: int) -> list[Result]:
    """Cost of a byte at a finer grid over that at 1°."""
    prepared = make(folder, grid, TIMES[grid])
    copy = copying(prepared)
    results = []
    for cache, where in CACHES.items():
        value = ratio(loading(prepared.windows(cache)), copy, max(5, repeats // 3))
        results.append(Result(f"{grid}: window {where} / copying, over the same at 1°", value / at_1[where], 1.25))
    shutil.rmtree(prepared.store.path.parent)
    shutil.rmtree(prepared.source)
    return results


CACHES: dict[Cache, str] = {"host": "from the host cache", "none": "from the store"}


def measure_preparation(prepared: Prepared, folder: Path, repeats: int) -> list[Result]:
    """Reading, packing, hashing and writing, over reading the same chunks with Zarr alone."""
    into = folder / "again"
    group: Any = zarr.open_group(prepared.source, mode="r")
    names = [c.name for c in prepared.store.channels if c.name in group]

    def read() -> None:
        for name in names:
            group[name][:]

    everything = ratio(
        lambda: prepare(prepared.config, into, resources=Resources(workers=2)), read, max(3, repeats // 5)
    )
    shutil.rmtree(into)
    return [Result("1°: preparing / reading the same chunks with Zarr alone", everything, 2.0)]


PEAK = """
import re, sys
from pathlib import Path
from data import data_config
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.parallel import Resources
prepare(data_config(Path(sys.argv[1]), int(sys.argv[2])), Path(sys.argv[3]), resources=Resources(memory_gib=float(sys.argv[4])))
# Not getrusage: it knows the peak of the process that this one was made from.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**20)
"""


def measure_memory(folder: Path) -> list[Result]:
    """Of a process that prepares a source four times as large as it may use."""
    limit, shape = 1.0, GRIDS["1°"]
    times = round(4 * limit * 2**30 / (4 * shape[0] * shape[1] * 80))
    source = folder / "large.zarr"
    write_om4(source, shape, times)
    command = [sys.executable, "-c", PEAK, source, times, folder / "large", limit]
    done = subprocess.run(
        list(map(str, command)),
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"},
    )
    for path in (source, folder / "large"):
        shutil.rmtree(path)
    return [
        Result(f"peak memory / limit of {limit:g} GiB, source 4 × larger", float(done.stdout.split()[-1]) / limit, 1.0)
    ]


def measure_dvc(folder: Path) -> list[Result]:
    """Files of sixty years at 1°, and what `dvc status` takes for as many, small, beyond its own start."""
    project = folder / "project"
    shards = write_sixty_years(project / "prepared")
    git, dvc = ["git", "-c", "user.name=x", "-c", "user.email=x@x"], [sys.executable, "-m", "dvc"]

    def call(*command: str) -> None:
        subprocess.run(command, cwd=project, check=True, stdout=subprocess.DEVNULL)

    call(*git, "init", "-q")
    call(*dvc, "init", "-q")
    call(*dvc, "config", "core.analytics", "false")
    call(*dvc, "config", "core.check_update", "false")
    start = min(seconds(lambda: call(*dvc, "status")) for _ in range(3))
    call(*dvc, "add", "prepared")
    status = min(seconds(lambda: call(*dvc, "status")) for _ in range(3))
    return [
        Result("1° × 60 years: files of the prepared store", shards, 300),
        Result("1° × 60 years: seconds of `dvc status` beyond dvc's start", status - start, 2.0),
    ]


def write_sixty_years(folder: Path) -> int:
    """As many files as sixty years at 1° have, half of the cells being wet, but small."""
    n = -(-SIXTY_YEARS // times_per_file(SIXTY_YEARS, row_bytes=4 * 81 * 180 * 360 // 2))
    (folder / "rows" / "c").mkdir(parents=True)
    for number in range(n):
        path = folder / "rows" / "c" / str(number) / "0"
        path.parent.mkdir()
        path.write_bytes(os.urandom(2**20))
    return n


def measure(repeats: int) -> list[Result]:
    """All ratios."""
    quick = repeats < 10
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared = make(folder, "1°", TIMES["1°"])
        results = measure_loading(prepared, repeats)
        at_1 = {where: results[k].value for k, where in enumerate(CACHES.values())}
        results += measure_bytes(folder, prepared) + measure_preparation(prepared, folder, repeats)
        for grid in islice(GRIDS, 1, 2 if quick else None):
            results += measure_flatness(folder, grid, at_1, repeats)
        if not quick:
            results += measure_memory(folder) + measure_dvc(folder)
    return results


if __name__ == "__main__":
    run(measure)
