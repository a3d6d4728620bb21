"""From a source to packed training stores, one per resolution: validate, derive, coarsen, keep the wet cells.

The times are worked on in blocks, each one file of every store, and each read from the source once. Unfinished work stands in
a folder that its configuration, source and code name: a preparation that was interrupted, however it was, goes on there.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from filelock import FileLock, Timeout
from tqdm import tqdm

from ocean_emulators.config.base import digest
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.preparation.coarsening import Resolution, resolutions
from ocean_emulators.datasets.preparation.reader import BlockReader, MissingValues
from ocean_emulators.datasets.source.anomalies import (
    derived,
    kept_seasonal_mean,
    season_of,
    seasonal_mean_bytes,
)
from ocean_emulators.datasets.source.completeness import require_whole
from ocean_emulators.datasets.source.layouts import open_source
from ocean_emulators.datasets.source.pinning import locate, require_unchanged
from ocean_emulators.datasets.source.selection import select_from, span_of_periods
from ocean_emulators.datasets.store.encoding import Scaling
from ocean_emulators.datasets.store.packed_store import create_store, seal_store, state_error, store_path, write_rows
from ocean_emulators.datasets.store.periods import write_period_digests
from ocean_emulators.files import move, write_text
from ocean_emulators.ocean import calendar
from ocean_emulators.parallel import Resources, open_pool, require_room

_IN_ONE_THREAD = Resources(workers=1)
_SAMPLED_TIMES = 8
_ABANDONED_SECONDS = 14 * 86400
_ENCODING_BYTES = 16
"""What turning a value into half its size and looking at the error takes, beside the value."""


def prepare(
    config: DataConfig,
    folder: Path,
    scratch: Path | None = None,
    resources: Resources = _IN_ONE_THREAD,
    code: str = "",
    times_per_file: int | None = None,
) -> None:
    """Write the packed stores of a source, `store_path(folder, grid)`, replacing the folder when all are complete.

    Parameters
    ----------
    scratch: folder for unfinished work, by default the one that `folder` is in
    code: what names the code's version: unfinished work of another one is not gone on with
    times_per_file: in the stores; by default what makes files of a good size

    Raises
    ------
    UserError
        If the source lacks a field, a level or a period, or has no value in a cell that its mask calls wet; or if the
        memory limit has no room for one file.
    """
    scratch = folder.parent if scratch is None else scratch
    scratch.mkdir(parents=True, exist_ok=True)
    content = require_unchanged(config.source)
    key = digest(_prepared_part(config), content, code, times_per_file)
    work = scratch.absolute() / f"prepare-{key}"
    with _alone(scratch / "prepare.lock"):
        try:
            config = _from_anywhere(config)
            _require_room_for_seasons(config, work, resources)
            job = _begin(config, work, times_per_file)
            _fill(job, resources)
            _finish(job, folder)
            _discard(work)
            _clear(scratch)
        except MissingValues:
            _discard(work)  # a source that is mended has another folder
            raise
        finally:
            _open_reader.cache_clear()
            _open_selected.cache_clear()


@dataclass(frozen=True)
class _Job:
    """A preparation in its work folder: all that a worker, in this process or another, needs to know."""

    config: DataConfig
    work: Path
    times_per_file: int
    n_times: int

    @property
    def stores(self) -> Path:
        """The folder that becomes the result."""
        return self.work / "stores"

    def times(self, block: int) -> range:
        """The times of a block."""
        start = block * self.times_per_file
        return range(start, min(start + self.times_per_file, self.n_times))

    @property
    def blocks(self) -> range:
        """The numbers of all blocks."""
        return range(-(-self.n_times // self.times_per_file))

    def record(self, block: int) -> Path:
        """The file that says that a block is complete, with the hash of each row of each store."""
        return self.work / f"block-{block:05d}.json"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Not beside another preparation of the project: both might work in one folder, and would take twice the memory."""
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        print("waiting for another preparation to end", flush=True)
        held.acquire()
    try:
        yield
    finally:
        held.release()


def _prepared_part(config: DataConfig) -> dict[str, Any]:
    """What of the configuration a prepared store depends on; `dvc.yaml` lists the same."""
    return {name: value for name, value in config.dump().items() if name != "statistics"}


def _from_anywhere(config: DataConfig) -> DataConfig:
    """With a source that workers find from any working directory."""
    return config.replace(source=str(Path(config.source).absolute()))


def _require_room_for_seasons(config: DataConfig, work: Path, resources: Resources) -> None:
    _, dataset = _open_selected(config, work)
    if derived(config, dataset):
        require_room(resources, seasonal_mean_bytes(dataset), "the mean season of a field")


def _begin(config: DataConfig, work: Path, times_per_file: int | None) -> _Job:
    """The job of a work folder as it was left, or a new one with empty stores."""
    begun = work / "begun.json"
    if begun.is_file() and (work / "stores").is_dir():
        return _Job(config, work, **json.loads(begun.read_text()))
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    whole, dataset = _open_selected(config, work)
    _require_whole(config, whole)
    n_times = dataset.sizes["time"]
    wanted = resolutions(dataset, config)[1:]
    scalings = _scalings(config, work, wanted)
    for resolution in sorted(wanted, key=lambda r: r.factor):
        # The finest first, whose files are the largest: a block is one file of each store.
        times_per_file = create_store(
            store_path(work / "stores", resolution.name),
            config.prognostic_channels,
            config.forcing_channels,
            xr.DataArray(_mask(config, resolution), dims=("channel", "lat", "lon")),
            dataset["time"],
            resolution.grid,
            scalings[resolution.name],
            times_per_file,
        )
    assert times_per_file is not None
    write_text(begun, json.dumps({"times_per_file": times_per_file, "n_times": n_times}))
    return _Job(config, work, times_per_file, n_times)


def _scalings(config: DataConfig, work: Path, wanted: Sequence[Resolution]) -> dict[str, Scaling]:
    """How values are stored, by resolution; in normalised units, from some times spread over the training period."""
    counts = {r.name: _mask(config, r).sum((1, 2)) for r in wanted}
    samples = {name: np.empty((0, 0), "f4") for name in counts}
    if config.storage != "float32":
        reader, train = _open_reader(config, work), config.periods.train
        inside = np.flatnonzero(calendar.within(reader.time, train.start, train.end))
        times = np.unique(np.linspace(inside[0], inside[-1], _SAMPLED_TIMES).astype(int))
        read = [reader.read(int(time), int(time) + 1) for time in times]
        samples = {
            r.name: np.concatenate(rows) for r, rows in zip(reader.resolutions, zip(*read, strict=True), strict=True)
        }
    return {name: Scaling.of(config.storage, samples[name], counts[name]) for name in counts}


@lru_cache(maxsize=1)
def _open_selected(config: DataConfig, work: Path) -> tuple[xr.Dataset, xr.Dataset]:
    """The whole source, and what is selected of it: looked at once, however often it is needed.

    The work folder's name tells one content of a source from another: a cluster's worker outlives preparations.
    """
    whole = open_source(config.source, keep_stacked=True)
    return whole, select_from(whole, config)


def _require_whole(config: DataConfig, whole: xr.Dataset) -> None:
    """Refuse a source that has lost chunks of what is read."""
    made, time = {c.name for c in derived(config, whole)}, whole["time"].values
    chosen = config.prognostic_channels + config.forcing_channels
    fields = [str(c.field.anomaly_of) if c.name in made else c.field.name for c in chosen]
    everything = bool(made) and config.anomaly_period == "all"
    span = slice(0, len(time)) if everything else span_of_periods(time, config)
    require_whole(locate(config.source), whole, fields, config.levels, span)


def _discard(work: Path) -> None:
    """Remove a work folder; whatever is left of it, should this be interrupted, is no work to go on with."""
    (work / "begun.json").unlink(missing_ok=True)
    shutil.rmtree(work, ignore_errors=True)  # a cluster's workers may still write to it


def _clear(scratch: Path) -> None:
    """Remove what other preparations left that nobody went on with for long: it may be as large as a store."""
    for work in scratch.glob("prepare-*"):
        if time.time() - max(path.stat().st_mtime for path in (work, *work.iterdir())) > _ABANDONED_SECONDS:
            _discard(work)


@lru_cache(maxsize=1)
def _open_reader(config: DataConfig, work: Path) -> BlockReader:
    """One for all blocks that a process works on."""
    whole, dataset = _open_selected(config, work)
    source, *wanted = resolutions(dataset, config)
    means = {c.name: kept_seasonal_mean(whole, c, config, work / f"{c.name}.npy") for c in derived(config, dataset)}
    channels = config.prognostic_channels + config.forcing_channels
    where = f"data.source: {config.source}"
    return BlockReader(dataset, channels, source, wanted, season_of(dataset), means, where)


def _fill(job: _Job, resources: Resources) -> None:
    """Do the blocks that are not done."""
    reader = _open_reader(job.config, job.work)
    todo = [block for block in job.blocks if not _is_complete(job, block)]
    n_done = job.n_times - sum(len(job.times(block)) for block in todo)
    if n_done:
        print(f"continuing behind {n_done} of {job.n_times} times", flush=True)
    at_once = len(job.times(0))
    held = reader.bytes_of(at_once)
    if job.config.storage != "float32":
        held += _ENCODING_BYTES * at_once * max(int(ends[-1]) for ends in reader.ends)
    what = f"one block of {at_once} times, a file of the store"
    with (
        open_pool(resources, held, what) as pool,
        tqdm(total=job.n_times, initial=n_done, unit="time", desc="prepare", disable=None) as bar,
    ):
        for n in pool.map(partial(_prepare_block, job), todo):
            bar.update(n)


def _prepare_block(job: _Job, block: int) -> int:
    """Write a block into all stores, record it, and return its number of times."""
    reader, times = _open_reader(job.config, job.work), job.times(block)
    record = {}
    for resolution, rows in zip(reader.resolutions, reader.read(times.start, times.stop), strict=True):
        written = write_rows(store_path(job.stores, resolution.name), times.start, rows)
        record[resolution.name] = {
            "file": written.file.relative_to(job.stores).as_posix(),
            "bytes": written.file.stat().st_size,
            "rows": [hashlib.sha256(row).hexdigest() for row in rows],
            "squared_error": written.squared_error.tolist(),
        }
    write_text(job.record(block), json.dumps(record))
    return len(times)


def _is_complete(job: _Job, block: int) -> bool:
    """Whether a block was recorded and its files are what was recorded."""
    if not job.record(block).is_file():
        return False
    files = [(job.stores / part["file"], part["bytes"]) for part in json.loads(job.record(block).read_text()).values()]
    return all(path.is_file() and path.stat().st_size == size for path, size in files)


def _finish(job: _Job, folder: Path) -> None:
    """Seal all stores and put their folder into its place."""
    reader = _open_reader(job.config, job.work)
    records = [json.loads(job.record(block).read_text()) for block in job.blocks]
    for resolution in reader.resolutions:
        path, parts = store_path(job.stores, resolution.name), [r[resolution.name] for r in records]
        if job.config.storage != "float32":
            error = sum(np.array(part["squared_error"]) for part in parts)
            print(state_error(path, job.config.storage, np.sqrt(error / job.n_times)), flush=True)
        rows = b"".join(bytes.fromhex(row) for part in parts for row in part["rows"])
        seal_store(path, np.frombuffer(rows, np.uint8).reshape(job.n_times, -1))
    write_period_digests(job.stores, job.config.periods, job.config.grids)
    move(job.stores, folder)


def _mask(config: DataConfig, resolution: Resolution) -> np.ndarray:
    """The wet cells of each channel, [channel, lat, lon], bool."""
    channels = config.prognostic_channels + config.forcing_channels
    return resolution.wet[[c.mask_level for c in channels]]
