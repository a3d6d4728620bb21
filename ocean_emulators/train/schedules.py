"""Learning rates over the steps of a training."""

import math


def schedule(step: int, total: int, warmup_fraction: float) -> float:
    """Share of the highest learning rate: a linear rise, then half a cosine to zero at the end."""
    warmup = int(warmup_fraction * total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))
