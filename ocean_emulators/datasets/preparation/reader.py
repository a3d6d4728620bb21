"""Reads a block of times from a source, once, as packed rows of every resolution."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from ocean_emulators.datasets.preparation.coarsening import Resolution, coarsen_field
from ocean_emulators.datasets.source.validation import read_block
from ocean_emulators.errors import UserError
from ocean_emulators.ocean.fields import Channel

_CELLS_AT_ONCE = 2**20
_WORK_BYTES = 64 * 2**20
"""What coarsening so many cells takes, and what else is small."""
_COPIES_READ = 3
"""A variable as it is decoded, as missing values are marked in it, and its wet cells."""


class MissingValues(UserError):
    """The source has no value in a cell that its mask calls wet."""


class BlockReader:
    """The chosen channels of a canonical dataset as rows [time, cell] of float32, for each of several resolutions."""

    def __init__(
        self,
        dataset: xr.Dataset,
        channels: Sequence[Channel],
        source: Resolution,
        resolutions: Sequence[Resolution],
        bins: np.ndarray,
        annual_cycles: Mapping[str, np.ndarray],
        where: str = "data.source",
    ) -> None:
        """`source` is the dataset's own resolution, `resolutions` are those wanted.

        `bins` [time] is the day-of-year bin of each time, `annual_cycles` {channel: [bin, lat, lon]} what the channels that
        are anomalies depart from; `where` begins messages.
        """
        self.dataset, self.channels, self.source = dataset, tuple(channels), source
        self.resolutions = tuple(resolutions)
        self.bins, self.annual_cycles, self.where = bins, annual_cycles, where
        self.time = dataset["time"].values
        levels = {c.mask_level for c in self.channels}
        self.wet_area = {k: source.grid.wet_area(k) * source.wet[k] for k in levels}
        self.own_cells, *self.cells = (
            {k: np.flatnonzero(r.wet[k]) for k in levels} for r in (source, *self.resolutions)
        )
        self.cells_per_channel = [np.array([len(cells[c.mask_level]) for c in self.channels]) for cells in self.cells]
        self.ends = [np.cumsum(counts) for counts in self.cells_per_channel]
        self.variables: dict[str, list[int]] = {}
        for index, channel in enumerate(self.channels):
            self.variables.setdefault(self._variable_of(channel), []).append(index)

    def bytes_of(self, times: int) -> int:
        """An upper bound of what reading so many times takes, the rows included."""
        rows = 4 * times * sum(int(ends[-1]) for ends in self.ends)
        return rows + _COPIES_READ * max(self._bytes_read(name, times) for name in self.variables) + _WORK_BYTES

    def read(self, start: int, stop: int) -> list[np.ndarray]:
        """Rows of times `start` to `stop - 1`, [time, cell] for each resolution.

        Raises
        ------
        MissingValues
            Naming field, level, time and cell.
        """
        rows = [np.empty((stop - start, int(ends[-1])), "f4") for ends in self.ends]
        for name, members in self.variables.items():
            values = self._read(name, members, slice(start, stop))
            for index in members:
                field = self._field(index, values, members, start)
                self._pack(index, field, start, rows)
        return rows

    def _variable_of(self, channel: Channel) -> str:
        """What to read for a channel. A variable that holds all levels may hold them in one chunk: it is read for all."""
        if channel.name in self.annual_cycles:
            return str(channel.field.anomaly_of)
        name = channel.field.name
        return name if name in self.dataset and "lev" in self.dataset[name].dims else channel.name

    def _read(self, name: str, members: list[int], times: slice) -> np.ndarray:
        """Values of a variable, [time, lat, lon], or with all levels from the first to the last that is used."""
        variable = self.dataset.variables[name].isel(time=times)  # without coordinates, which cost more than reading
        if "lev" in variable.dims:
            levels = [self.channels[index].mask_level for index in members]
            variable = variable.isel(lev=slice(levels[0], levels[-1] + 1))
        variable = variable.transpose("time", ..., "lat", "lon")
        try:
            values: np.ndarray = variable.values
        except MemoryError:
            raise
        except Exception:  # codecs and file systems raise what they like
            read_block(self.dataset[[name]].isel(time=times), [name], self.where)  # finds out where, and says it
            raise
        return values

    def _bytes_read(self, name: str, times: int) -> int:
        variable = self.dataset[name]
        # A chunk is decoded as a whole, however little of it is wanted.
        times = max(times, variable.encoding.get("preferred_chunks", {}).get("time", 1))
        return int(times * variable.isel(time=0).nbytes)

    def _field(self, index: int, values: np.ndarray, members: list[int], start: int) -> np.ndarray:
        """A channel's values, [time, lat, lon], among those that were read."""
        channel = self.channels[index]
        if values.ndim == 4:
            values = values[:, channel.mask_level - self.channels[members[0]].mask_level]
        if channel.name in self.annual_cycles:
            values = values - self.annual_cycles[channel.name][self.bins[start : start + len(values)]]
        return values

    def _pack(self, index: int, field: np.ndarray, start: int, rows: list[np.ndarray]) -> None:
        """Put the wet cells of a channel where they belong in the rows of each resolution."""
        level = self.channels[index].mask_level
        own = field.reshape(len(field), -1).take(self.own_cells[level], axis=1)
        if not np.isfinite(own).all():
            raise self._missing(index, own, start)
        at_once = max(1, _CELLS_AT_ONCE // field[0].size)
        for resolution, cells, ends, out in zip(self.resolutions, self.cells, self.ends, rows, strict=True):
            columns = slice(ends[index] - len(cells[level]), ends[index])
            if resolution.factor == self.source.factor:
                out[:, columns] = own
                continue
            for first in range(0, len(field), at_once):
                times = slice(first, first + at_once)
                means = coarsen_field(field[times], self.wet_area[level], resolution.factor)
                out[times, columns] = means.reshape(len(means), -1).take(cells[level], axis=1)

    def _missing(self, index: int, own: np.ndarray, start: int) -> MissingValues:
        channel, grid = self.channels[index], self.source.grid
        missing = ~np.isfinite(own)
        step, cell = np.argwhere(missing)[0]
        i, j = divmod(int(self.own_cells[channel.mask_level][cell]), grid.shape[1])
        depth = "" if channel.level is None else f" (level {channel.level}, {grid.lev[channel.level]:g} m)"
        return MissingValues(
            f"data.source: {channel.name}{depth} has no value at {self.time[start + step]} in {int(missing[step].sum())} "
            f"cell(s) that the mask of its level calls wet, the first at index ({i}, {j}), {abs(grid.lat[i]):g}°"
            f"{'N' if grid.lat[i] >= 0 else 'S'} {grid.lon[j]:g}°E; mend the store or its mask"
        )
