"""Memory: preparation and statistics stay within the stated limit, and training takes what `check` says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cftime
import numpy as np
import pytest
import xarray as xr
import zarr

from ocean_emulators.parallel import GIB

ROOT = Path(__file__).parents[2]
LIMIT_GIB = 0.75
TIMES_LARGER = 4
N_LAT, N_LON, LEVELS, STEPS_PER_YEAR = 180, 360, 5, 73
CHILD = """
import json, sys
from pathlib import Path
from ocean_emulators.config.base import parse
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.store.packed_store import store_path
from ocean_emulators.datasets.statistics.compute import compute_statistics
from ocean_emulators.datasets.store.packed_store import open_store
from ocean_emulators.parallel import Resources

def peak_gib():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20

tree, folder, limit = json.loads(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
data, resources = parse(DataConfig, tree, "child"), Resources(memory_gib=limit, workers=8)
peaks = []
prepare(data, folder, resources=resources)
peaks.append(peak_gib())
for factor in data.coarsen:
    compute_statistics(open_store(store_path(folder, f"x{factor}")), data.periods.train, data.statistics, resources)
peaks.append(peak_gib())
print(json.dumps(peaks))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A one-degree ocean of some levels, in OM4's chunking, that fills more than the memory that will be allowed."""
    path = tmp_path_factory.mktemp("large") / "source.zarr"
    years = int(-(-TIMES_LARGER * LIMIT_GIB * GIB // (4 * N_LAT * N_LON * (LEVELS + 1) * STEPS_PER_YEAR)))
    n = STEPS_PER_YEAR * years
    time = cftime.num2date(5 * np.arange(n) + 2.5, "days since 2000-01-01", calendar="noleap")
    lat, lon = (np.arange(N_LAT) + 0.5) - 90, np.arange(N_LON) + 0.5
    wet = np.broadcast_to(np.abs(lat)[:, None] < 70, (N_LAT, N_LON))
    masks = {f"mask_{k}": (("y", "x"), wet) for k in range(LEVELS)}
    xr.Dataset(
        {**masks, "dz": ("lev", np.full(LEVELS, 10.0))},
        coords={"time": time, "y": lat, "x": lon, "lev": 10.0 * np.arange(LEVELS) + 5},
    ).to_zarr(path, zarr_format=2, consolidated=False)
    group, rng = zarr.open_group(path, mode="a"), np.random.default_rng(0)
    state = np.where(wet, rng.normal(size=(N_LAT, N_LON)), np.nan).astype("f4")
    for name in ("hfds", *(f"thetao_{k}" for k in range(LEVELS))):
        array = group.create_array(
            name, shape=(n, N_LAT, N_LON), chunks=(1, N_LAT, N_LON), dtype="f4", compressors=None, fill_value=np.nan
        )
        array.attrs["_ARRAY_DIMENSIONS"] = ["time", "y", "x"]
        for start in range(0, n, STEPS_PER_YEAR):
            season = np.sin(2 * np.pi * np.arange(STEPS_PER_YEAR) / STEPS_PER_YEAR).astype("f4")
            array[start : start + STEPS_PER_YEAR] = state + season[:, None, None] + start
    zarr.consolidate_metadata(str(path))
    return path


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_memory_stays_below_the_limit(large: Path, tmp_path: Path) -> None:
    size = sum(file.stat().st_size for file in large.rglob("*") if file.is_file())
    assert size > TIMES_LARGER * LIMIT_GIB * GIB
    periods = {
        "train": {"start": "2000-01-01", "end": "2008-12-31"},
        "validation": {"start": "2009-01-01", "end": "2009-12-31"},
        "test": {"start": "2010-01-01", "end": "2050-12-31"},
    }
    data = {"source": str(large), "prognostic": ["thetao"], "forcing": ["hfds"], "levels": list(range(LEVELS))}
    tree = json.dumps({**data, "coarsen": [1, 2], "periods": periods})
    command = [sys.executable, "-c", CHILD, tree, str(tmp_path / "prepared"), str(LIMIT_GIB)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout)
    print(f"source {size / GIB:.2f} GiB, limit {LIMIT_GIB} GiB, peak {peaks[0]:.2f} and {peaks[1]:.2f} GiB")
    assert max(peaks) < LIMIT_GIB


TRAINING = """
import json, sys
from pathlib import Path
import torch
from ocean_emulators.models.base import OceanContext
from ocean_emulators.cost import cost_of_model_step
from ocean_emulators.models.families import parse_model

def status(key):
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])

config, calls, shape = parse_model(json.loads(sys.argv[1]), "child"), int(sys.argv[2]), (120, 240)
lat, lon = 1.5 * torch.arange(120) - 89.25, 1.5 * torch.arange(240)
ocean = OceanContext(20, 3, torch.ones(20, *shape, dtype=torch.bool), lat, lon, torch.ones(20))
cost = cost_of_model_step(config, [ocean])
model, state, forcing = config.build(ocean).train(), torch.randn(1, 1, 20, *shape), torch.randn(1, 2, 3, *shape)
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
loss = 0
for _ in range(calls):
    state = model(state, forcing)
    loss = loss + state.square().mean()
loss.backward()
there = cost.weight_bytes - 4 * cost.n_parameters  # all but gradients: was there before, or is the optimiser's
print(json.dumps([cost.training_bytes(calls) - there, status("VmHWM") - before]))
"""
SAMUDRA = {"type": "samudra", "widths": [64, 80], "dilation": [1, 2], "expansion": 2}
DEEP = {"type": "samudra", "widths": [48, 60, 72, 96], "dilation": [1, 2, 4, 8], "expansion": 2}
FOMO = {
    "type": "fomo",
    "patch_extent": [6, 6],
    "processor": {"widths": [64, 80], "dilation": [1, 2], "expansion": 2, "norm": "none"},
    "encoder": {"type": "conservative"},
    "decoder": {"type": "residual"},
}
LATENTS = {"type": "perceiver", "latents": 128, "latent_width": 32, "heads": 2, "head_width": 32}
PERCEIVERS = {"encoder": {**LATENTS, "width": 64}, "decoder": {**LATENTS, "query_width": 32, "window": 6}}
"""The encoder's work is done in two chunks."""


@pytest.mark.parametrize(
    ("model", "calls"),
    [
        *(
            ({**SAMUDRA, "precision": precision, "checkpointing": checkpointing}, 3)
            for precision in ("float32", "bfloat16")
            for checkpointing in ("none", "convolutions", "layers")
        ),
        ({**DEEP, "checkpointing": "layers"}, 1),
        ({**DEEP, "checkpointing": "layers"}, 4),
        (FOMO, 1),
        ({**FOMO, "checkpointing": "layers"}, 2),
        ({**FOMO, **PERCEIVERS}, 1),
    ],
)
def test_training_takes_the_memory_that_was_said(model: dict[str, object], calls: int) -> None:
    arguments = [sys.executable, "-c", TRAINING, json.dumps(model), str(calls)]
    # Memory that tensors gave back goes back to the system, so that what is measured is what they hold.
    done = subprocess.run(
        arguments,
        cwd=ROOT,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=True,
    )
    said, measured = json.loads(done.stdout)
    print(model, calls, f"said {said / GIB:.3f} GiB, measured {measured / GIB:.3f} GiB: {said / measured:.2f}")
    assert said == pytest.approx(measured, rel=0.2)
