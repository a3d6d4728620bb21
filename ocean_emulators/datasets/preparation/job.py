"""From a source to packed training stores, one per resolution: validate, derive, coarsen, keep the wet cells.

The times are worked on in blocks, each one file of every store, and each read from the source once. Unfinished work stands in
a folder that its configuration, source and code name: a preparation that was interrupted, however it was, resumes there.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.preparation.coarsening import Resolution
from ocean_emulators.datasets.preparation.opening import OpenSource
from ocean_emulators.datasets.preparation.reader import BlockReader, MissingValues
from ocean_emulators.datasets.preparation.work import WorkFolder, alone, clear, put_aside
from ocean_emulators.datasets.source.pinning import require_unchanged
from ocean_emulators.datasets.store import writing
from ocean_emulators.datasets.store.encoding import Scaling
from ocean_emulators.datasets.store.packed_store import store_path
from ocean_emulators.datasets.store.periods import write_period_digests
from ocean_emulators.datasets.store.shards import Shards
from ocean_emulators.errors import UserError
from ocean_emulators.files import digest, move_folder
from ocean_emulators.ocean import calendar
from ocean_emulators.parallel import Opened, Pool, Resources, open_pool, require_room
from ocean_emulators.sealing import Damaged

_IN_ONE_THREAD = Resources(workers=1)
_SAMPLED_TIMES = 8
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
    """Write the packed stores of a source, `store_path(folder, grid)`, and the digests of its periods, replacing the folder
    when all are complete.

    Parameters
    ----------
    scratch: folder for unfinished work, by default the one that `folder` is in
    code: what names the code's version: unfinished work of another one is not resumed
    times_per_file: in the stores; by default what makes files of a good size

    Raises
    ------
    UserError
        If the source lacks a field, a level or a period, or has no value in a cell that its mask calls wet; if the memory
        limit has no room for one file; or if the disk is full.
    """
    scratch = folder.parent if scratch is None else scratch
    content = require_unchanged(config.source)
    key = digest(_prepared_part(config), content, code, times_per_file)
    work = WorkFolder(scratch.absolute() / f"prepare-{key}")
    with alone(scratch / "prepare.lock"):
        source = OpenSource.of(_from_anywhere(config))
        if source.annual_cycle_bytes:
            require_room(resources, source.annual_cycle_bytes, "the mean annual cycle of a field")
        try:
            job, reader = PreparationJob.resume(source, work) or PreparationJob.begin(source, work, times_per_file)
            job.fill(reader, resources)
            job.finish(reader, folder)
        except MissingValues:
            work.discard()  # a source that is mended has another folder
            raise
        work.discard()
        clear(scratch)


def _prepared_part(config: DataConfig) -> dict[str, Any]:
    """What of the configuration a prepared store depends on; `dvc.yaml` lists the same."""
    return {name: value for name, value in config.dump().items() if name != "statistics"}


def _from_anywhere(config: DataConfig) -> DataConfig:
    """With a source that workers find from any working directory."""
    return config.replace(source=str(Path(config.source).absolute()))


@dataclass(frozen=True, eq=False)
class PreparationJob:
    """A preparation in its work folder: all that a worker, in this process or another, needs to know. It can be pickled."""

    config: DataConfig
    work: WorkFolder
    times_per_file: int
    n_times: int
    scalings: Mapping[str, Scaling]
    """how values are stored, by grid"""

    @classmethod
    def begin(
        cls, source: OpenSource, work: WorkFolder, times_per_file: int | None
    ) -> "tuple[PreparationJob, BlockReader]":
        """A new one, and what reads its source in this process.

        Raises
        ------
        UserError
            If the source has lost chunks.
        """
        work.discard()
        source.require_whole()
        reader = source.reader(work)
        scalings = _scalings(source.config, reader)
        if times_per_file is None:
            # Of the finest grid, whose files are the largest: a block is one file of each store.
            finest = int(np.argmin([r.factor for r in reader.resolutions]))
            bytes_each = scalings[reader.resolutions[finest].name].written.itemsize
            times_per_file = writing.times_per_file(len(reader.time), int(reader.ends[finest][-1]) * bytes_each)
        job = cls(source.config, work, times_per_file, len(reader.time), scalings)
        work.begin({"times_per_file": times_per_file, "scalings": {k: v.to_json() for k, v in scalings.items()}})
        return job, reader

    @classmethod
    def resume(cls, source: OpenSource, work: WorkFolder) -> "tuple[PreparationJob, BlockReader] | None":
        """The one whose work folder was left, if any was."""
        begun = work.begun()
        if begun is None:
            return None
        reader = source.reader(work)
        scalings = {grid: Scaling.from_json(tree) for grid, tree in begun["scalings"].items()}
        return cls(source.config, work, begun["times_per_file"], len(reader.time), scalings), reader

    @property
    def blocks(self) -> range:
        """The numbers of all blocks."""
        return range(-(-self.n_times // self.times_per_file))

    def times(self, block: int) -> range:
        """The times of a block."""
        start = block * self.times_per_file
        return range(start, min(start + self.times_per_file, self.n_times))

    def shards(self, grid: str, n_cells: int) -> Shards:
        """The files of a store."""
        folder, dtype = store_path(self.work.stores, grid) / "rows", self.scalings[grid].written
        return Shards(folder, self.n_times, n_cells, self.times_per_file, dtype)

    def fill(self, reader: BlockReader, resources: Resources) -> None:
        """Do the blocks that are not done."""
        at_once = len(self.times(0))
        held = reader.bytes_of(at_once)
        if self.config.storage != "float32":
            held += _ENCODING_BYTES * at_once * max(int(ends[-1]) for ends in reader.ends)
        opened = Opened(partial(_open_reader, self.config, self.work), reader)
        what = f"one block of {at_once} times, a file of the store"
        with open_pool(resources, opened, held, what) as pool:
            todo = self._todo(pool)
            n_done = self.n_times - sum(len(self.times(block)) for block in todo)
            if n_done:
                print(f"resuming after {n_done} of {self.n_times} times", flush=True)
            with tqdm(total=self.n_times, initial=n_done, unit="time", desc="prepare", disable=None) as bar:
                for n in pool.map(self.prepare_block, todo):
                    bar.update(n)

    def _todo(self, pool: Pool[BlockReader]) -> list[int]:
        """The blocks without a record, and those whose files are not as they were written."""
        recorded = [block for block in self.blocks if self.work.record(block) is not None]
        todo = set(self.blocks) - set(recorded)
        for block, files in zip(recorded, pool.map(self.damaged_files, recorded), strict=True):
            for file in files:
                put_aside(file)
                todo.add(block)
        return sorted(todo)

    def damaged_files(self, reader: BlockReader, block: int) -> list[Path]:
        """The files of a block that are not as they were written."""
        found, times = [], self.times(block)
        for resolution, ends in zip(reader.resolutions, reader.ends, strict=True):
            shards = self.shards(resolution.name, int(ends[-1]))
            try:
                shards.read(times.start, times.stop)
            except Damaged:
                found.append(shards.file(block))
        return found

    def prepare_block(self, reader: BlockReader, block: int) -> int:
        """Write a block into all stores, record it, and return its number of times."""
        record, times = {}, self.times(block)
        read = reader.read(times.start, times.stop)
        for resolution, counts, rows in zip(reader.resolutions, reader.cells_per_channel, read, strict=True):
            shards, scaling = self.shards(resolution.name, rows.shape[1]), self.scalings[resolution.name]
            error = writing.write_rows(shards, scaling, counts, block, rows)
            hashes = [hashlib.sha256(row).hexdigest() for row in rows]
            record[resolution.name] = {"rows": hashes, "squared_error": error.tolist()}
        self.work.write_record(block, record)
        return len(times)

    def finish(self, reader: BlockReader, folder: Path) -> None:
        """Describe and seal all stores, and put their folder into its place."""
        records = [record for block in self.blocks if (record := self.work.record(block)) is not None]
        if len(records) < len(self.blocks):
            raise UserError(f"{self.work.path}: something removed files of it while they were needed; run it again")
        for resolution in reader.resolutions:
            self._finish_store(reader, resolution, [record[resolution.name] for record in records])
        write_period_digests(self.work.stores, self.config.periods, self.config.grids)
        move_folder(self.work.stores, folder)

    def _finish_store(self, reader: BlockReader, resolution: Resolution, parts: list[dict[str, Any]]) -> None:
        scaling, mask = self.scalings[resolution.name], _mask(self.config, resolution)
        error = np.sqrt(np.sum([part["squared_error"] for part in parts], axis=0) / self.n_times)
        hashes = b"".join(bytes.fromhex(row) for part in parts for row in part["rows"])
        writing.finish_store(
            self.shards(resolution.name, int(mask.sum())),
            scaling,
            {"prognostic": self.config.prognostic_channels, "forcing": self.config.forcing_channels},
            mask,
            reader.dataset["time"],
            resolution.grid,
            np.frombuffer(hashes, np.uint8).reshape(self.n_times, -1),
            error,
        )
        if self.config.storage != "float32":
            worst = int(error.argmax())
            print(
                f"{resolution.name}: stored as {self.config.storage}, off by {error[worst]:.1e} standard deviations at most "
                f"({reader.channels[worst].name})",
                flush=True,
            )


def _open_reader(config: DataConfig, work: WorkFolder) -> BlockReader:
    return OpenSource.of(config).reader(work)


def _scalings(config: DataConfig, reader: BlockReader) -> dict[str, Scaling]:
    """How values are stored, by grid; in normalised units, from some times spread over the training period."""
    samples = [np.empty((0, 0), "f4") for _ in reader.resolutions]
    if config.storage != "float32":
        train = config.periods.train
        inside = np.flatnonzero(calendar.within(reader.time, train.start, train.end))
        times = np.unique(np.linspace(inside[0], inside[-1], _SAMPLED_TIMES).astype(int))
        read = [reader.read(int(time), int(time) + 1) for time in times]
        samples = [np.concatenate(rows) for rows in zip(*read, strict=True)]
    parts = zip(reader.resolutions, samples, reader.cells_per_channel, strict=True)
    return {r.name: Scaling.of(config.storage, sample, counts) for r, sample, counts in parts}


def _mask(config: DataConfig, resolution: Resolution) -> np.ndarray:
    """The wet cells of each channel, [channel, lat, lon], bool."""
    channels = config.prognostic_channels + config.forcing_channels
    return resolution.wet[[c.mask_level for c in channels]]
