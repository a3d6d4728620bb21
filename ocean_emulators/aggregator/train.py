"""Losses over an epoch: in all, and by channel, variable and level; on each grid."""

from collections import defaultdict
from collections.abc import Sequence

import torch

from ocean_emulators.ocean.fields import Channel
from ocean_emulators.stepper import BatchOutput


class TrainAggregator:
    """Means over the batches of an epoch, as `train/mean/loss`, `train/loss/{channel,variable,depth}/…`.

    Those on further grids come as `train/x2/mean/loss` and so on, by the grid's name.
    """

    label = "train"

    def __init__(self, channels: Sequence[Channel], grids: Sequence[str] = ("x1",)) -> None:
        self.channels = tuple(channels)
        self.labels = {grids[0]: self.label} | {grid: f"{self.label}/{grid}" for grid in grids[1:]}
        self.reset()

    def reset(self) -> None:
        """Begin an epoch."""
        self.totals = {grid: torch.zeros(len(self.channels), dtype=torch.float64) for grid in self.labels}
        self.weights = dict.fromkeys(self.labels, 0)

    def record_batch(self, output: BatchOutput, weight: int = 1) -> None:
        """Add a batch."""
        self.totals[output.grid] += weight * output.channel_loss.mean(0).double().cpu()
        self.weights[output.grid] += weight

    def get_logs(self) -> dict[str, float]:
        """The means so far."""
        logs: dict[str, float] = {}
        for grid, label in self.labels.items():
            logs |= self._logs_of(label, (self.totals[grid] / max(self.weights[grid], 1)).tolist())
        return logs

    def _logs_of(self, label: str, loss: list[float]) -> dict[str, float]:
        groups: dict[str, list[float]] = defaultdict(list)
        for channel, value in zip(self.channels, loss, strict=True):
            groups[f"channel/{channel.name}"].append(value)
            groups[f"variable/{channel.field.name}"].append(value)
            groups[f"depth/{channel.mask_level}"].append(value)
        mean = {f"{label}/loss/{name}": sum(values) / len(values) for name, values in groups.items()}
        return {f"{label}/mean/loss": sum(loss) / len(loss), **mean}
