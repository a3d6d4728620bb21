"""Free rollouts over the validation period: one-step losses do not choose the model that rolls out best."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.distributed import ALONE, Ranks
from ocean_emulators.stepper import Stepper
from ocean_emulators.train.selection import RolloutValidation


class RolloutScores:
    """Normalised RMSE of rollouts from several starts, over all leads and wet cells, as `val/rollout/nrmse/…`."""

    def __init__(
        self,
        config: RolloutValidation,
        stepper: Stepper,
        data: InferenceDataset,
        cell_area: Tensor,
        grid: str,
        ranks: Ranks = ALONE,
    ) -> None:
        """`cell_area` is the wet area of prognostic cells, [cell]; `grid` the name of the data's grid.

        Raises
        ------
        UserError
            If the rollouts do not fit into the period.
        """
        self.stepper, self.data, self.grid, self.ranks = stepper, data, grid, ranks
        self.steps = config.steps(data.rows.store.step_days, data.needs, len(data.times))
        possible = data.starts(self.steps, 1)
        spread = max(config.starts - 1, 1)
        chosen = [possible[i * (len(possible) - 1) // spread] for i in range(config.starts)]
        self.starts: Sequence[int] = ranks.share(chosen)
        self.area = cell_area

    def __call__(self) -> dict[str, float]:
        """The scores, with the weights that the model has now; a rollout that blows up scores infinity."""
        packing = self.data.rows.packing
        channels = packing.prognostic
        channel = packing.channel_of_cell[: packing.n_prognostic_cells]
        sums = torch.zeros(len(channels), dtype=torch.float64, device=packing.device)
        for step, error in enumerate(self._errors(packing), start=1):
            assert step <= self.steps
            sums.index_add_(0, channel, (self.area * error.square().sum(0)).double())
        weight = torch.zeros_like(sums).index_add_(0, channel, self.area.double())
        count = torch.tensor([len(self.starts) * self.steps], dtype=torch.float64, device=packing.device)
        total = self.ranks.sum(torch.cat([sums, count]))
        squares = (total[:-1] / weight / total[-1]).nan_to_num(nan=torch.inf).tolist()
        by_variable: dict[str, list[float]] = defaultdict(list)
        for of, square in zip(channels, squares, strict=True):
            by_variable[of.field.name].append(square)
        scores = {name: (sum(values) / len(values)) ** 0.5 for name, values in by_variable.items()}
        scores["mean"] = sum(scores.values()) / len(scores)
        return dict(zip(self.log_names, scores.values(), strict=True))

    @property
    def log_names(self) -> list[str]:
        """The names of the scores."""
        fields = dict.fromkeys(channel.field.name for channel in self.data.rows.packing.prognostic)
        return [f"val/rollout/nrmse/{name}" for name in (*fields, "mean")]

    def _errors(self, packing: Packing) -> "Sequence[Tensor] | map[Tensor]":
        """For each step, [start, prognostic cell], in standard deviations of the channels."""
        if not self.starts:
            return []
        std = packing.std[: packing.n_prognostic_cells]
        forecasts = self.stepper.inference(self.data, self.starts, self.steps, self.grid)
        truth = (self.data.truth(self.starts, step) for step in range(1, self.steps + 1))
        return map(lambda predicted, true: (packing.pack(predicted) - true) / std, forecasts, truth)
