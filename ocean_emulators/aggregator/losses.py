"""Mean losses: in all, and by channel, variable and level; on each grid.

Names, and those of the published system (github.com/m2lines/Samudra); `val/…` alike:

| here | published |
|---|---|
| `train/mean/loss` | the same |
| `train/loss/channel/thetao_3` | `train/loss/channel/thetao_3_loss` |
| `train/loss/variable/thetao` | `train/loss/variable/thetao_loss` |
| `train/loss/depth/3` | `train/loss/depth/depth_3_loss` |

Where a model predicts several states at once, the published losses by channel, variable and depth are of the first of them
alone; ours are of all. Ours are means over windows, whatever the sizes of the batches.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ocean_emulators.aggregator.accumulator import Accumulator
from ocean_emulators.distributed import ALONE, Ranks
from ocean_emulators.ocean.fields import Channel
from ocean_emulators.stepper import BatchOutput


def labels_of(label: str, grids: Sequence[str]) -> dict[str, str]:
    """What the logs of each grid begin with: `train` for the first, `train/x2` for a further one."""
    return {grid: f"{label}/{grid}" if k else label for k, grid in enumerate(grids)}


def mean(total: Tensor, windows: Tensor) -> list[float]:
    """Means over windows; NaN where there were none."""
    return (total.double() / windows.double() if windows > 0 else torch.full_like(total, math.nan)).tolist()


class LossMeans:
    """Means over windows, model steps and output states, as `train/mean/loss`, `train/loss/{channel,variable,depth}/…`.

    Those on further grids come as `train/x2/mean/loss` and so on, by the grid's name.
    """

    def __init__(
        self,
        label: str,
        channels: Sequence[Channel],
        grids: Sequence[str],
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.channels, self.labels = tuple(channels), labels_of(label, grids)
        shapes: dict[str, tuple[int, ...]] = {}
        for grid in grids:
            shapes |= {f"{grid}/loss": (len(self.channels),), f"{grid}/windows": ()}
        self.sums = Accumulator(shapes, device, ranks)

    def record_batch(self, output: BatchOutput) -> None:
        """Add a batch; each of its windows counts alike."""
        self.sums.add(f"{output.grid}/loss", output.losses.double().mean((1, 2)).sum(0))
        self.sums.add(f"{output.grid}/windows", len(output.losses))

    def get_logs(self) -> dict[str, float]:
        """The means so far, over all ranks, which must ask for them together; NaN on a grid without windows."""
        return self._logs(self.sums.totals())

    @property
    def log_names(self) -> list[str]:
        """The names in the logs; it asks no other rank."""
        return list(self._logs(self.sums.zeros()))

    def _logs(self, totals: Mapping[str, Tensor]) -> dict[str, float]:
        logs: dict[str, float] = {}
        for grid, label in self.labels.items():
            logs |= self._logs_of(label, mean(totals[f"{grid}/loss"], totals[f"{grid}/windows"]))
        return logs

    def _logs_of(self, label: str, loss: list[float]) -> dict[str, float]:
        groups: dict[str, list[float]] = defaultdict(list)
        for channel, value in zip(self.channels, loss, strict=True):
            groups[f"channel/{channel.name}"].append(value)
            groups[f"variable/{channel.field.name}"].append(value)
            groups[f"depth/{channel.mask_level}"].append(value)
        means = {f"{label}/loss/{name}": sum(values) / len(values) for name, values in groups.items()}
        return {f"{label}/mean/loss": sum(loss) / len(loss), **means}
