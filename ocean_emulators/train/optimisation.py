"""One optimiser step: gradients of micro-batches and ranks added up, looked at, clipped, and applied."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ocean_emulators.distributed import ALONE, GradientSums, Ranks
from ocean_emulators.train.config import TrainConfig
from ocean_emulators.train.schedules import Plateaus

_LEAST_SCALE = 2.0**-14
"""Of float16's losses; where even so small a one overflows, the gradient itself is not finite."""


class NotFiniteError(Exception):
    """A gradient that is not finite; weights, averages and the optimiser are as they were."""


class Optimisation:
    """Optimiser, schedule, loss scaling, clipping and the sums over ranks."""

    def __init__(self, config: TrainConfig, model: nn.Module, ranks: Ranks = ALONE, scaled: bool = False) -> None:
        """`scaled` is for float16, whose gradients vanish without a factor on the loss."""
        self.config, self.parameters = config, [p for p in model.parameters() if p.requires_grad]
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        device = self.parameters[0].device
        self.optimizer = kind(
            self.parameters,
            lr=config.learning_rate,
            betas=config.adam_betas,
            weight_decay=config.weight_decay,
            fused=device.type == "cuda",
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=scaled)
        self.plateaus = Plateaus(config.schedule)
        self._sums = GradientSums(self.parameters, ranks)

    @property
    def learning_rate(self) -> float:
        """Of the next step, or the last one."""
        return float(self.optimizer.param_groups[0]["lr"])

    def set_learning_rate(self, place: int, length: int) -> None:
        """For a step of a training, or an epoch of it."""
        share = self.config.schedule.share(place, length) * self.plateaus.factor
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * share

    def backward(self, loss: Tensor, last: bool = True) -> None:
        """Add the gradients of a micro-batch; with the last of a step they are added up over ranks, too."""
        if last:
            self._sums.arm()
        self.scaler.scale(loss).backward()

    def step(self) -> None:
        """Change the weights, and forget the gradients.

        Raises
        ------
        NotFiniteError
            Instead of the step, if the gradient is not finite; it is forgotten.
        """
        self._sums.finish()
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        finite = bool(torch.isfinite(norm))
        if finite:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.config.gradient_clip, norm)
        if finite or self.scaler.is_enabled():
            self.scaler.step(self.optimizer)  # which leaves out a step whose float16 overflowed
            self.scaler.update()
        named = "" if finite else self._first_not_finite(gradients)
        self.optimizer.zero_grad(set_to_none=True)
        if not finite and not (self.scaler.is_enabled() and self.scaler.get_scale() > _LEAST_SCALE):
            raise NotFiniteError(named)

    def forget(self) -> None:
        """Drop the gradients so far."""
        self.optimizer.zero_grad(set_to_none=True)

    def _first_not_finite(self, gradients: Sequence[Tensor]) -> str:
        bad = next((g for g in gradients if not bool(torch.isfinite(g).all())), None)
        return "" if bad is None else f"of a parameter of shape {list(bad.shape)}"

    def state_dict(self) -> dict[str, Any]:
        """What the rest of the training depends on."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "plateaus": self.plateaus.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`.

        Raises
        ------
        ValueError
            If it is not of this model, or not finite.
        """
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.plateaus.load_state_dict(state["plateaus"])
        for parameter, moments in self.optimizer.state.items():
            for moment in (moments["exp_avg"], moments["exp_avg_sq"]):
                if moment.shape != parameter.shape or not bool(torch.isfinite(moment).all()):
                    raise ValueError("it holds tensors that are not of this model, or not finite")
