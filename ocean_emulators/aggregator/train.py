"""Losses over an epoch: in all, and by channel, variable and level."""

from collections import defaultdict
from collections.abc import Sequence

import torch

from ocean_emulators.ocean.fields import Channel
from ocean_emulators.stepper import BatchOutput


class TrainAggregator:
    """Means over the batches of an epoch, as `train/mean/loss`, `train/loss/{channel,variable,depth}/…`."""

    label = "train"

    def __init__(self, channels: Sequence[Channel]) -> None:
        self.channels = tuple(channels)
        self.reset()

    def reset(self) -> None:
        """Begin an epoch."""
        self.total = torch.zeros(len(self.channels), dtype=torch.float64)
        self.weight = 0

    def record_batch(self, output: BatchOutput, weight: int = 1) -> None:
        """Add a batch."""
        self.total += weight * output.channel_loss.mean(0).double().cpu()
        self.weight += weight

    def get_logs(self) -> dict[str, float]:
        """The means so far."""
        loss = (self.total / max(self.weight, 1)).tolist()
        groups: dict[str, list[float]] = defaultdict(list)
        for channel, value in zip(self.channels, loss, strict=True):
            groups[f"channel/{channel.name}"].append(value)
            groups[f"variable/{channel.field.name}"].append(value)
            groups[f"depth/{channel.mask_level}"].append(value)
        mean = {f"{self.label}/loss/{name}": sum(values) / len(values) for name, values in groups.items()}
        return {f"{self.label}/mean/loss": sum(loss) / len(loss), **mean}
