"""The loss of a rollout: errors of each model step by channel, and their sum."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn

from ocean_emulators.distributed import Ranks
from ocean_emulators.losses.dynamic import DynamicScale


class RolloutLoss(nn.Module):
    """Errors of model steps by window and channel, and what is minimised.

    Its `state_dict` is the state of the dynamic scale, and empty without one: all else follows from configuration and data.

    Parameters
    ----------
    terms: by the name of the grid, what errors are the sum of; each maps prediction and truth, [..., channel, lat, lon],
        to [..., channel], with the channel's weight in it
    weight: [channel], that weight
    over_steps: whether the errors of a rollout's model steps are averaged or added up
    dynamic: factors that follow the losses; None leaves them at 1
    """

    weight: Tensor

    def __init__(
        self,
        terms: Mapping[str, Sequence[nn.Module]],
        weight: Tensor,
        over_steps: Literal["mean", "sum"] = "mean",
        dynamic: DynamicScale | None = None,
    ) -> None:
        super().__init__()
        self.terms = nn.ModuleDict({name: nn.ModuleList(of_grid) for name, of_grid in terms.items()})
        self.over_steps, self.dynamic = over_steps, dynamic
        self.register_buffer("weight", weight, persistent=False)

    @property
    def scale(self) -> Tensor:
        """[channel], what the losses of channels are multiplied by in the total."""
        return torch.ones_like(self.weight) if self.dynamic is None else self.dynamic.scale

    def errors(self, predicted: Tensor, truth: Tensor, grid: str) -> Tensor:
        """Raw losses of a model step on a grid, in float32; `total` and `observe` take those of a rollout.

        Parameters
        ----------
        predicted, truth: [window, output state, channel, lat, lon], normalised
        grid: the name of the grid that they are on

        Returns
        -------
        [window, output state, channel]
        """
        terms = self.terms[grid]
        assert isinstance(terms, nn.ModuleList)
        with torch.autocast(predicted.device.type, enabled=False):
            predicted, truth = predicted.float(), truth.float()
            errors: Tensor = reduce(torch.add, (term(predicted, truth) for term in terms))
        return errors

    def total(self, losses: Tensor) -> Tensor:
        """What is minimised, a scalar, of raw losses [window, model step, output state, channel]."""
        scaled = losses if self.dynamic is None else losses * self.dynamic.scale
        return scaled.mean((0, 2, 3)).sum() if self.over_steps == "sum" else scaled.mean()

    @torch.no_grad()
    def observe(self, losses: Tensor, ranks: Ranks) -> None:
        """Let the dynamic scale follow raw losses of this rank, [window, model step, output state, channel].

        All ranks call it together. The scale evens out what channels lose without their weights, which it would undo
        otherwise. Without a dynamic scale, nothing happens.
        """
        if self.dynamic is not None:
            self.dynamic.observe(losses.detach() / torch.where(self.weight > 0, self.weight, 1.0), ranks)
