"""Preparation: no value changes its place, and what can't be prepared is refused and leaves the old store."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import LocalStore

from ocean_emulators.aggregator.sums import WeightedSums
from ocean_emulators.config.base import parse
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.preparation.coarsening import resolutions
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.preparation.work import WorkFolder
from ocean_emulators.datasets.source import layouts as sources
from ocean_emulators.datasets.source.selection import select
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore, open_store, store_path
from ocean_emulators.errors import UserError
from ocean_emulators.ocean.grid import cell_area
from ocean_emulators.ocean.regions import REGIONS
from ocean_emulators.parallel import Resources
from tests import tiny

ROOT = Path(__file__).parents[1]


def config(source: Path, **changes: Any) -> DataConfig:
    return parse(DataConfig, {**tiny.experiment(source)["data"], **changes}, "tiny")


def write(dataset: xr.Dataset, path: Path, **kwargs: Any) -> Path:
    dataset.to_zarr(path, zarr_format=2, **kwargs)
    return path


def prepared(dataset: xr.Dataset, tmp_path: Path, name: str, **changes: Any) -> PackedStore:
    prepare(config(write(dataset, tmp_path / f"{name}.zarr"), **changes), tmp_path / name)
    return open_store(store_path(tmp_path / name, "x1"))


def encoded() -> xr.Dataset:
    """The tiny ocean with values that tell variable, level, time, row and column; all are exact in float32."""
    dataset = tiny.dataset()
    n = dataset.sizes["time"]
    t, y, x = np.arange(n)[:, None, None], np.arange(tiny.N_LAT)[None, :, None], np.arange(tiny.N_LON)
    for name, number in tiny.PREFIX.items():
        for level in range(tiny.LEVELS) if number < 4 else (None,):
            label = name if level is None else f"{name}_{level}"
            code = (((number * tiny.LEVELS + (level or 0)) * n + t) * tiny.N_LAT + y) * tiny.N_LON + x
            wet = dataset[f"mask_{level or 0}"].values
            dataset[label] = (("time", "y", "x"), np.where(wet, code, np.nan).astype("f4"))
    return dataset


def test_every_cell_is_where_the_store_says(tmp_path: Path) -> None:
    dataset = encoded()
    store = prepared(dataset, tmp_path, "encoded", prognostic=["so", "zos", "thetao"], forcing=["hfds", "tauuo"])
    names = ["so_0", "so_1", "zos", "thetao_0", "thetao_1", "hfds", "tauuo"]
    assert [c.name for c in store.channels] == names
    masks = [dataset[f"mask_{1 if name.endswith('_1') else 0}"].values for name in names]
    expected = np.concatenate([dataset[n].values[:, wet] for n, wet in zip(names, masks, strict=True)], axis=1)
    assert np.array_equal(store.rows(0, len(store.time)), expected)
    assert np.array_equal(store.rows(17, 19), expected[17:19])
    assert np.array_equal(store.mask, np.stack(masks))
    assert np.array_equal(store.time, dataset["time"].values)


def test_a_missing_value_is_named_and_the_old_store_stays(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    prepare(config(source), folder)
    before = open_store(store_path(folder, "x1")).fingerprint
    dataset = tiny.dataset()
    y, x = np.argwhere(dataset["mask_1"].values)[5]
    dataset["so_1"][100, y, x] = np.nan
    bad = write(dataset, tmp_path / "bad.zarr")
    where = rf"at index \({y}, {x}\), 73.125°S {dataset['x'].values[x]:g}°E"
    when = dataset["time"].values[100]
    with pytest.raises(UserError, match=rf"so_1 \(level 1, 70 m\) has no value at {when} in 1 cell.*{where}; mend"):
        prepare(config(bad), folder)
    assert open_store(store_path(folder, "x1")).fingerprint == before
    assert not list(tmp_path.glob("prepare-*")), "what can't be gone on with is not left behind"


def test_land_may_hold_anything(source: Path, store: PackedStore, tmp_path: Path) -> None:
    dataset = tiny.dataset().fillna(0.0)
    assert prepared(dataset, tmp_path, "zeros").fingerprint == store.fingerprint


def test_coarse_cells_are_means_over_wet_area(tmp_path: Path) -> None:
    dataset = tiny.dataset()
    folder = tmp_path / "prepared"
    prepare(config(write(dataset, tmp_path / "s.zarr"), coarsen=[2, 1]), folder)
    fine, coarse = (open_store(store_path(folder, f"x{factor}")) for factor in (1, 2))
    area = cell_area(dataset["y"].values, dataset["x"].values)
    assert coarse.grid.area.sum() == pytest.approx(area.sum())
    fields = [dense(store, store.rows(3, 4)[0]) for store in (fine, coarse)]
    for c, channel in enumerate(coarse.channels):
        wet = dataset[f"mask_{channel.mask_level}"].values
        for i in range(tiny.N_LAT // 2):
            for j in range(tiny.N_LON // 2):
                block = slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2)
                weight = (area * wet)[block]
                assert coarse.mask[c, i, j] == wet[block].any()
                assert coarse.grid.wet_area(channel.mask_level)[i, j] == pytest.approx(weight.sum(), rel=1e-12)
                if wet[block].any():
                    mean = (weight * fields[0][c][block]).sum() / weight.sum()
                    assert fields[1][c, i, j] == pytest.approx(mean, rel=1e-6)


def dense(store: PackedStore, row: np.ndarray) -> np.ndarray:
    """[channel, lat, lon], float64, land zero."""
    fields = np.zeros(store.mask.shape)
    fields[store.mask] = row
    return fields


def test_scores_of_a_coarse_ocean_weigh_what_is_wet(source: Path, tmp_path: Path) -> None:
    prepare(config(source, coarsen=[4, 1]), tmp_path / "prepared")
    weights = []
    for factor in (1, 4):
        store = open_store(store_path(tmp_path / "prepared", f"x{factor}"))
        ones = np.ones(len(store.channels))
        statistics = Statistics(ones, ones, ones, np.zeros((1, 1), "f4"), tuple(c.name for c in store.channels), "")
        packing = Packing(store.prognostic, store.forcing, store.mask, statistics)
        weights.append(WeightedSums(packing, store.grid, (REGIONS["global"],)).weight.numpy())
    assert np.allclose(*weights, rtol=1e-12)


def test_fractions_of_the_source_are_weights(source: Path, store: PackedStore, tmp_path: Path) -> None:
    dataset = tiny.dataset()
    wet = np.stack([dataset[f"mask_{k}"].values for k in range(tiny.LEVELS)])
    fraction = np.where(wet, 0.5 + 0.5 * np.random.default_rng(0).random(wet.shape), np.nan)
    dataset = dataset.assign_coords(ocean_fraction=(("lev", "y", "x"), fraction))
    weighted = prepared(dataset, tmp_path, "fractions", coarsen=[1, 2])
    assert np.array_equal(weighted.rows(0, 9), store.rows(0, 9))
    assert np.array_equal(weighted.grid.wet_area(1), store.grid.area * np.nan_to_num(fraction[1]))
    assert weighted.fingerprint != store.fingerprint
    coarse = open_store(store_path(tmp_path / "fractions", "x2"))
    for level in range(tiny.LEVELS):
        assert coarse.grid.wet_area(level).sum() == pytest.approx(weighted.grid.wet_area(level).sum(), rel=1e-12)


def test_without_fractions_cells_weigh_their_area(store: PackedStore) -> None:
    assert store.grid.ocean_fraction is None
    assert store.grid.wet_area(1) is store.grid.area


def test_a_store_does_not_depend_on_what_is_made_beside_it(source: Path, tmp_path: Path) -> None:
    for name, factors in (("alone", [4]), ("together", [2, 4, 1])):
        prepare(config(source, coarsen=factors), tmp_path / name)
    alone, together = (open_store(store_path(tmp_path / name, "x4")) for name in ("alone", "together"))
    assert alone.fingerprint == together.fingerprint
    assert np.array_equal(alone.rows(0, 219), together.rows(0, 219))


@pytest.mark.parametrize("factors", [[1], [1, 2, 4]])
@pytest.mark.parametrize("compact", [False, True], ids=["by level", "compact"])
def test_each_chunk_of_the_source_is_read_once(
    factors: list[int], compact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = tiny.dataset().drop_vars(["so_0", "so_1", "uo_0", "uo_1", "vo_0", "vo_1", "tauuo", "tauvo"])
    expected = np.concatenate(
        [dataset[n].values[:, dataset[m].values] for n, m in (("thetao_0", "mask_0"), ("thetao_1", "mask_1"))], axis=1
    )
    if compact:
        parts = [f"thetao_{k}" for k in range(tiny.LEVELS)]
        stacked = xr.concat([dataset[p] for p in parts], "lev").transpose("time", "lev", "y", "x")
        dataset = dataset.drop_vars(parts).assign(thetao=stacked)
    path = write(dataset.chunk(time=1), tmp_path / "source.zarr")
    chunks = {p.relative_to(path).as_posix() for p in path.glob("*/*") if p.name.count(".") > 1}
    read: list[str] = []
    get = LocalStore.get

    async def counted(self: LocalStore, key: str, *args: Any, **kwargs: Any) -> Any:
        if self.root == path:
            read.append(key)
        return await get(self, key, *args, **kwargs)

    monkeypatch.setattr(LocalStore, "get", counted)
    monkeypatch.setattr(sources, "_fast_if_local", nullcontext)  # compiled threads could not be counted
    data = config(path, coarsen=factors, prognostic=["thetao", "zos"], forcing=["hfds"])
    prepare(data, tmp_path / "prepared", times_per_file=80)
    monkeypatch.undo()
    # The first state is looked at before any work.
    counts = Counter(key for key in read if key in chunks)
    assert set(counts) == chunks
    assert {key for key, n in counts.items() if n > 1} == {key for key in chunks if re.search(r"/0[./]", key)}
    rows = open_store(store_path(tmp_path / "prepared", "x1")).rows(0, 219)
    assert np.array_equal(rows[:, : expected.shape[1]], expected)


def test_coarsening_must_divide_the_grid(source: Path) -> None:
    data = config(source, coarsen=[1, 3])
    with pytest.raises(UserError, match=r"data.coarsen: 3 does not divide .*\(16, 32\)"):
        resolutions(select(data), data)


def test_anomalies_know_the_training_period_alone(source: Path, tmp_path: Path) -> None:
    dataset = tiny.dataset()
    later = dataset.copy(deep=True)
    later["hfds"][146:] += 7
    cells = slice(-int(dataset["mask_0"].sum()), None)
    anomaly, changed = (
        prepared(d, tmp_path, name, forcing=["hfds", "hfds_anomalies"]).rows(0, 219)[:, cells]
        for name, d in (("as it is", dataset), ("later", later))
    )
    hfds = dataset["hfds"].values[:, dataset["mask_0"].values]
    season = hfds[:146].reshape(2, 73, -1).mean(0)
    assert np.allclose(anomaly[:146], hfds[:146] - np.tile(season, (2, 1)), atol=1e-4)
    assert np.array_equal(anomaly[:146], changed[:146])
    assert np.allclose((changed - anomaly)[146:], 7, atol=1e-4)


def test_anomalies_need_a_whole_year(tmp_path: Path, source: Path) -> None:
    periods = tiny.experiment()["data"]["periods"]
    short = {**periods, "train": {"start": "2000-01-01", "end": "2000-06-30"}}
    with pytest.raises(
        UserError, match=r"data.anomaly_period: hfds_anomalies is the departure .* no data in 37 of 73 day-of-year bins"
    ):
        prepare(config(source, forcing=["hfds_anomalies"], periods=short), tmp_path / "prepared")


def test_the_fingerprint_tells_content_and_nothing_else(store: PackedStore, tmp_path: Path) -> None:
    dataset = tiny.dataset()
    rechunked = dataset.chunk({"time": 100, "y": 9, "x": 32})
    assert prepared(rechunked, tmp_path, "rechunked").fingerprint == store.fingerprint
    y, x = np.argwhere(dataset["mask_1"].values)[5]
    dataset["uo_1"][40, y, x] += 1e-3
    assert prepared(dataset, tmp_path, "changed").fingerprint != store.fingerprint
    moved = tiny.dataset().assign_coords(x=dataset["x"] + 1)
    assert prepared(moved, tmp_path, "moved").fingerprint != store.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": [0, 2]}, r"data.levels: level 2 asked for, but .* has levels 0 to 1"),
        (
            {
                "periods": {
                    "train": {"start": "2000-01-01", "end": "2000-12-31"},
                    "validation": {"start": "2001-01-01", "end": "2001-12-31"},
                    "test": {"start": "2009-01-01", "end": "2009-12-31"},
                }
            },
            r"data.periods.test: 2009-01-01 to 2009-12-31 holds none of the times of",
        ),
    ],
    ids=["level", "period"],
)
def test_what_the_source_lacks_is_refused(source: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        select(config(source, **changes))


def test_a_missing_variable_and_a_hole_in_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no variable 'zos'"):
        select(config(write(tiny.dataset().drop_vars("zos"), tmp_path / "no_zos.zarr")))
    holed = tiny.dataset().isel(time=[i for i in range(219) if i != 60])
    with pytest.raises(UserError, match=r"the time step is 5 days, but .* is followed by"):
        select(config(write(holed, tmp_path / "holed.zarr")))


CHILD = """
import json, sys
from pathlib import Path
from ocean_emulators.config.base import parse
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.parallel import Resources
tree, folder, scratch = sys.argv[1:]
data = parse(DataConfig, json.loads(tree), "child")
prepare(data, Path(folder), Path(scratch), Resources(workers=2), times_per_file=8)
"""


@dataclass(frozen=True)
class Interrupted:
    """A preparation in another process, killed as often as one likes; then gone on with in this one."""

    data: DataConfig
    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "prepared"

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    def done(self) -> list[Path]:
        """The records of finished blocks."""
        return sorted(self.scratch.glob("prepare-*/block-*.json"))

    def kill(self, blocks: int, delay: float) -> None:
        """Run until so many blocks are done, and some seconds more, then kill."""
        arguments = [json.dumps(self.data.dump()), str(self.folder), str(self.scratch)]
        child = subprocess.Popen([sys.executable, "-c", CHILD, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
        begun = self.scratch / "prepare.lock"
        while not (begun.exists() and len(self.done()) >= blocks) and child.poll() is None:
            time.sleep(0.001)
        time.sleep(delay)
        child.kill()
        assert child.wait() in (0, -signal.SIGKILL)

    def go_on(self) -> None:
        prepare(self.data, self.folder, self.scratch, times_per_file=8)


def files_of(record: Path) -> list[Path]:
    """The files of a block, one of each store."""
    number = int(record.stem.removeprefix("block-"))
    return [record.parent / "stores" / f"{grid}.zarr" / "rows" / "c" / str(number) / "0" for grid in ("x1", "x2")]


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a preparation makes that nothing interrupted."""
    root = tmp_path_factory.mktemp("whole")
    prepare(config(source, coarsen=[1, 2]), root / "prepared", times_per_file=8)
    return content(root / "prepared")


def test_killed_at_any_point_it_goes_on_and_ends_the_same(
    source: Path, whole: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    interrupted = Interrupted(config(source, coarsen=[1, 2]), tmp_path)
    interrupted.kill(0, rng.uniform(0, 0.3))
    for blocks in np.sort(rng.integers(1, 25, 2)):
        interrupted.kill(int(blocks), rng.uniform(0, 0.02))
        assert not interrupted.folder.exists(), "half of a preparation is nowhere to be mistaken for a whole one"
    finished = {}
    for record in interrupted.done():
        for path in files_of(record):
            finished[interrupted.folder / path.relative_to(record.parent / "stores")] = path.stat().st_mtime_ns
    assert len(finished) >= 2
    interrupted.go_on()
    assert f"resuming after {8 * (len(finished) // 2)} of 219 times" in capsys.readouterr().out
    assert content(interrupted.folder) == whole
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "what was finished is not done again"
    assert [p.name for p in interrupted.scratch.iterdir()] == ["prepare.lock"]


def test_what_was_left_is_taken_only_if_it_is_whole_and_of_the_same_source(
    source: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "source.zarr"
    shutil.copytree(source, path)
    interrupted = Interrupted(config(path, coarsen=[1, 2]), tmp_path)
    interrupted.kill(10, 0)
    files = [path for record in interrupted.done() for path in files_of(record)]
    files[0].unlink()
    files[5].write_bytes(files[5].read_bytes()[:-1])
    left = tmp_path / "left"
    shutil.copytree(interrupted.scratch, left)
    interrupted.go_on()
    assert content(interrupted.folder) == whole

    shutil.rmtree(interrupted.scratch)
    shutil.copytree(left, interrupted.scratch)
    group = zarr.open_group(path, mode="a")
    group["zos"][:] = group["zos"][:] + 1  # type: ignore[operator, index]
    interrupted.go_on()
    prepare(interrupted.data, tmp_path / "anew", times_per_file=8)
    assert content(interrupted.folder) == content(tmp_path / "anew") != whole


def test_neither_workers_nor_scratch_elsewhere_change_a_byte(
    source: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    resources = Resources(memory_gib=64, workers=3)
    prepare(config(source, coarsen=[1, 2]), tmp_path / "a" / "prepared", tmp_path / "b", resources, "code", 8)
    assert content(tmp_path / "a" / "prepared") == whole


def test_a_block_that_does_not_fit_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prepare.memory_gib: 0.01 GiB can't hold one block of 219 times, a file"):
        prepare(config(source), tmp_path / "prepared", resources=Resources(memory_gib=0.01))
    assert not (tmp_path / "prepared").exists()


@pytest.mark.parametrize(("storage", "error"), [("float16", 3e-4), ("bfloat16", 3e-3)])
def test_half_the_size_states_its_error(
    storage: str, error: float, source: Path, store: PackedStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(config(source, storage=storage, coarsen=[1, 2]), tmp_path / "half", times_per_file=50)
    half = open_store(store_path(tmp_path / "half", "x1"))
    assert half.fingerprint != store.fingerprint
    assert f"x1: stored as {storage}, off by" in capsys.readouterr().out
    shards = sum(f.stat().st_size for f in half.path.glob("rows/c/*/*"))
    assert shards == pytest.approx(sum(f.stat().st_size for f in store.path.glob("rows/c/*/*")) / 2, rel=0.01)
    stated = zarr.open_group(half.path, mode="r").attrs["storage_error"]
    off = half.rows(0, 219).astype("f8") - store.rows(0, 219)
    ends = np.cumsum(half.cells_per_channel)
    for c, channel in enumerate(half.channels):
        part = off[:, ends[c] - half.cells_per_channel[c] : ends[c]] / half.scaling.scale[c]
        measured = np.sqrt((part**2).mean())
        assert stated[channel.name] == pytest.approx(measured, rel=0.02)  # type: ignore[index, call-overload]
        assert 0 < measured < error


def test_killed_after_the_stores_are_in_place_it_begins_anew(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of a work folder whose stores have moved away is no work to go on with."""
    data = config(source)
    prepare(data, tmp_path / "prepared", tmp_path / "scratch")
    before = open_store(store_path(tmp_path / "prepared", "x1")).fingerprint
    left: list[Path] = []
    monkeypatch.setattr(WorkFolder, "discard", lambda work: left.append(work.path))
    prepare(data, tmp_path / "prepared", tmp_path / "scratch")
    monkeypatch.undo()
    assert (left[0] / "begun.json").is_file()
    prepare(data, tmp_path / "prepared", tmp_path / "scratch")
    assert open_store(store_path(tmp_path / "prepared", "x1")).fingerprint == before
    assert not list((tmp_path / "scratch").glob("prepare-*"))


def test_lost_chunks_of_given_anomalies_are_missed(tmp_path: Path) -> None:
    dataset = tiny.dataset()
    dataset["hfds_anomalies"] = dataset["hfds"] - 1
    path = write(dataset.chunk(time=1), tmp_path / "s.zarr")
    (path / "hfds_anomalies" / "7.0.0").unlink()
    with pytest.raises(UserError, match=r"hfds_anomalies has no chunk 7.0.0 \(times 7 to 7\)"):
        prepare(config(path, forcing=["hfds_anomalies"]), tmp_path / "prepared")


def test_what_is_damaged_beside_the_fields_is_told(tmp_path: Path) -> None:
    path = write(tiny.dataset(), tmp_path / "s.zarr")
    (path / "mask_1" / "0.0").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"s.zarr"):
        prepare(config(path), tmp_path / "prepared")
    (tmp_path / "cut.zarr.zip").write_bytes(b"PK nonsense")
    with pytest.raises(UserError, match=r"cut.zarr.zip"):
        prepare(config(tmp_path / "cut.zarr.zip"), tmp_path / "prepared")


def test_work_that_nobody_went_on_with_is_removed(source: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    old, new = scratch / "prepare-old", scratch / "prepare-new"
    for work in (old, new):
        (work / "stores").mkdir(parents=True)
        (work / "begun.json").write_text("{}")
    long_ago = time.time() - 15 * 86400
    for path in (old / "stores", old / "begun.json", old):
        os.utime(path, (long_ago, long_ago))
    prepare(config(source), tmp_path / "prepared", scratch)
    assert new.is_dir()
    assert not old.exists()
