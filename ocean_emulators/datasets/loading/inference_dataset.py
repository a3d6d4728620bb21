"""A period for rollouts of any length: initial states, forcing and truth by start and step, read as they are needed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.requirements import DataRequirements
from ocean_emulators.errors import UserError


class InferenceDataset:
    """On one grid. A start is the time, in the store, of the last state given to the first model step.

    Truth is handed out in physical units, so the rows need a cache of "none" (see `Rows.physical`).
    """

    def __init__(self, rows: Rows, what: str, needs: DataRequirements) -> None:
        """The period is that of the rows; `what` is its name in messages.

        Raises
        ------
        UserError
            If the period is too short for one step.
        """
        self.rows, self.needs, self.times = rows, needs, rows.times
        if not self.longest_rollout():
            raise UserError(
                f"data.periods.{what}: holds {len(self.times)} times, too few for any rollout; lengthen the period"
            )

    def starts(self, steps: int, every: int) -> list[int]:
        """Starts, `every` so many steps, from which `steps` steps stay inside the period."""
        return list(self.needs.forecast_starts(self.times, steps, every))

    def longest_rollout(self) -> int:
        """Number of steps from the first possible start to the end of the period, its forcing included."""
        return self.needs.longest_rollout(len(self.times))

    def initial(self, starts: Sequence[int]) -> Tensor:
        """The states given to the first model step, normalised, [start, input state, channel, lat, lon]."""
        n = self.needs.input_states
        times = [start - n + 1 + k for start in starts for k in range(n)]
        fields = self.rows.fields(times, self.rows.packing.prognostic_channels)
        return torch.unflatten(fields, 0, (len(starts), n))

    def forcing(self, starts: Sequence[int], model_step: int) -> Tensor:
        """Forcing of a model step, counted from 0, normalised, [start, forcing time, channel, lat, lon]."""
        packing, offsets = self.rows.packing, self.needs.forcing_offsets(model_step)
        if not offsets or not packing.forcing:
            shape = packing.mask[packing.forcing_channels].shape
            return torch.zeros(len(starts), len(offsets), *shape, device=packing.device)
        fields = self.rows.fields([s + offset for s in starts for offset in offsets], packing.forcing_channels)
        return torch.unflatten(fields, 0, (len(starts), len(offsets)))

    def truth(self, starts: Sequence[int], step: int) -> Tensor:
        """Rows at `step` steps after each start, physical units, [start, prognostic cell]."""
        return self.rows.physical([start + step for start in starts])
