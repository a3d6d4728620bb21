"""Training windows and evaluation starts, as the stepper asks for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ocean_emulators.datasets.config import Period
from ocean_emulators.datasets.store import PackedStore
from ocean_emulators.errors import UserError


@dataclass(frozen=True)
class DataRequirements:
    """Which times a model reads and writes in one call, counted in steps from the last state that it is given."""

    input_states: int
    output_states: int
    forcing_times: tuple[int, ...]
    """such as (0, 1): forcing at the time of the last given state and of the first predicted one"""

    @property
    def past(self) -> int:
        """How many states before the last given one are needed."""
        return max(self.input_states - 1, -min(self.forcing_times, default=0), 0)

    def future(self, calls: int) -> int:
        """How many states after the last given one are needed for a number of calls and their truth."""
        last_forcing = (calls - 1) * self.output_states + max(self.forcing_times, default=0)
        return max(calls * self.output_states, last_forcing)

    def reach(self, steps: int) -> int:
        """How many states after the last given one a rollout of so many steps reads, truth and forcing together."""
        return max(steps, self.future(-(-steps // self.output_states)))

    def longest_rollout(self, n_times: int) -> int:
        """Number of steps that fit into so many times, from the first possible start on."""
        after_start = n_times - self.past - 1
        return max((steps for steps in range(after_start + 1) if self.reach(steps) <= after_start), default=0)

    def forcing_offsets(self, call: int) -> list[int]:
        """The times of a call's forcing, counted from the last state given to the first call."""
        return [call * self.output_states + offset for offset in self.forcing_times]


class Rows:
    """Rows of a part of the store, read from it each time, or held as one tensor."""

    def __init__(self, store: PackedStore, times: range, cache: str, device: torch.device) -> None:
        """`cache` is `none`, `host` or `device`: where the rows are held once they have been read."""
        self.store, self.times, self.device = store, times, device
        self.held: Tensor | None = None
        if cache != "none":
            self.held = torch.from_numpy(store.rows(times.start, times.stop))
            if cache == "device":
                self.held = self.held.to(device)

    def windows(self, first: Sequence[int], length: int) -> Tensor:
        """Windows of consecutive rows from the given times of the store on, [window, time, cell], on the device."""
        if self.held is not None:
            index = torch.as_tensor(first)[:, None] - self.times.start + torch.arange(length)
            return self.held[index.to(self.held.device)].to(self.device)
        read = np.stack([self.store.rows(start, start + length) for start in first])
        return torch.from_numpy(read).to(self.device)


class TrainData(Dataset[Tensor]):
    """All windows of a period for rollouts of a number of calls; item: rows [time, cell] in physical units."""

    def __init__(self, rows: Rows, period: Period, what: str, needs: DataRequirements, calls: int) -> None:
        """`what` names the period in messages.

        Raises
        ------
        UserError
            If the period is shorter than one window.
        """
        times = rows.store.indices(period, what)
        self.rows, self.needs, self.calls = rows, needs, calls
        self.length = needs.past + 1 + needs.future(calls)
        if len(times) < self.length:
            raise UserError(
                f"data.periods.{what}: {period.start} to {period.end} holds {len(times)} times, but a rollout of "
                f"{calls} call(s) needs {self.length}; lengthen the period or shorten the rollout"
            )
        self.first = range(times.start, times.stop - self.length + 1)

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> Tensor:
        """A whole batch at once, [window, time, cell]: what torch's loader calls where it is there."""
        return self.rows.windows([self.first[i] for i in indices], self.length)


class InferenceDataset:
    """A period for rollouts of any length: initial states, forcing and truth by start and step."""

    def __init__(self, rows: Rows, period: Period, what: str, needs: DataRequirements) -> None:
        times = rows.store.indices(period, what)
        if len(times) < needs.past + 2:
            raise UserError(f"data.periods.{what}: {period.start} to {period.end} is too short for any rollout")
        self.rows, self.needs, self.times = rows, needs, times

    def starts(self, steps: int, every: int) -> list[int]:
        """Times of the last given state, `every` so many steps, from which `steps` steps stay inside the period."""
        first, last = self.times.start + self.needs.past, self.times.stop - 1 - self.needs.reach(steps)
        return list(range(first, last + 1, every))

    def longest_rollout(self) -> int:
        """Number of steps from the first possible start to the end of the period, its forcing included."""
        return self.needs.longest_rollout(len(self.times))

    def initial(self, starts: Sequence[int]) -> Tensor:
        """The states given to the first call, rows [start, input state, cell]."""
        n = self.needs.input_states
        return self.rows.windows([start - n + 1 for start in starts], n)

    def forcing(self, starts: Sequence[int], call: int) -> Tensor:
        """Rows at the times of a call's forcing, [start, forcing time, cell]."""
        offsets = self.needs.forcing_offsets(call)
        if not offsets:
            return self.rows.windows(starts, 1)[:, :0]
        return torch.cat([self.rows.windows([s + offset for s in starts], 1) for offset in offsets], dim=1)

    def truth(self, starts: Sequence[int], step: int) -> Tensor:
        """Rows at `step` steps after each start, [start, cell]."""
        return self.rows.windows([start + step for start in starts], 1)[:, 0]
