"""The moving average of the weights, which is what validation and evaluation use."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch_ema import ExponentialMovingAverage


class Averages:
    """Exponential moving averages of a model's parameters, and of the running statistics of its normalisation layers with
    them, so that averaged weights meet the statistics that belong to them.

    torch-ema does the arithmetic; it pairs tensors by their position, so states are kept by name here. With `warmup` the
    decay after n steps is at most (1 + n) / (10 + n), as in the published system.
    """

    def __init__(self, model: nn.Module, decay: float, warmup: bool = True) -> None:
        self.model = model
        self.names, tensors = zip(*_averaged(model).items(), strict=True)
        self._ema = ExponentialMovingAverage(tensors, decay=decay, use_num_updates=warmup)

    def update(self) -> None:
        """Follow the weights, after an optimiser step."""
        self._ema.update()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages into the model while a block runs."""
        with self._ema.average_parameters():
            yield

    def averaged_state(self) -> dict[str, Tensor]:
        """A copy of the model's state with the averages in place of the raw values."""
        with self.applied():
            return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """The averages by the names of what they are of, and the number of updates."""
        shadows = dict(zip(self.names, self._ema.shadow_params, strict=True))
        return {"averages": shadows, "updates": self._ema.num_updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`.

        Raises
        ------
        ValueError
            If it is not of this model.
        """
        averages = state["averages"]
        if set(averages) != set(self.names):
            raise ValueError("it holds averages of other tensors than this model has")
        for name, shadow in zip(self.names, self._ema.shadow_params, strict=True):
            if averages[name].shape != shadow.shape or not bool(torch.isfinite(averages[name]).all()):
                raise ValueError(f"its average of {name} is not of this model, or not finite")
            shadow.copy_(averages[name])
        self._ema.num_updates = state["updates"]


def _averaged(model: nn.Module) -> dict[str, Tensor]:
    statistics = {n: b for n, b in model.named_buffers() if n.endswith(("running_mean", "running_var"))}
    return dict(model.named_parameters()) | statistics
