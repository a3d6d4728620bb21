"""Sums that grow on the device, and come to the host in one transfer."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ocean_emulators.distributed import ALONE, Ranks


class Accumulator:
    """Named sums of tensors.

    Adding to one waits for nothing: the host learns of them only when it asks for the totals.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        device: torch.device,
        ranks: Ranks = ALONE,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        sizes = [math.prod(shape) for shape in shapes.values()]
        self.ranks, self.shapes = ranks, dict(shapes)
        self.flat = torch.zeros(sum(sizes), dtype=dtype, device=device)
        self._sums = self._parts(self.flat)

    def _parts(self, flat: Tensor) -> dict[str, Tensor]:
        parts = flat.split([math.prod(shape) for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def add(self, name: str, value: Tensor | float) -> None:
        """Add to a sum."""
        self._sums[name] += value

    def reset(self) -> None:
        """Begin at zero."""
        self.flat.zero_()

    def totals(self) -> dict[str, Tensor]:
        """The sums over all ranks, on the host. All ranks must ask for them together."""
        return self._parts(self.ranks.sum(self.flat.clone()).cpu())

    def zeros(self) -> dict[str, Tensor]:
        """As `totals` where nothing was added, without asking anyone."""
        return self._parts(torch.zeros(self.flat.shape, dtype=self.flat.dtype))

    def state_dict(self) -> dict[str, Tensor]:
        """This rank's sums, exactly: another rank's are its own, and can't be put in their place."""
        return {"sums": self.flat.cpu().clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`.

        Raises
        ------
        ValueError
            If they are sums of other things.
        """
        if state["sums"].shape != self.flat.shape:
            raise ValueError(f"it holds {state['sums'].numel()} sums where {self.flat.numel()} are kept")
        self.flat.copy_(state["sums"])
