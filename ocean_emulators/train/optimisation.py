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
        self._sums, self._ranks = GradientSums(self.parameters, ranks), ranks
        self._losses: list[Tensor] = []

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
        if self.scaler.is_enabled():
            self._losses.append(loss.detach())
        self.scaler.scale(loss).backward()

    def step(self) -> bool:
        """Change the weights, and forget the gradients; whether they were changed: not where float16 overflowed.

        After an overflow the factor on the loss is halved, and training goes on.

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
        named = "" if finite else self._first_not_finite(gradients)
        overflow = bool(named) and self._is_overflow()
        if finite:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.config.gradient_clip, norm)
            self.scaler.step(self.optimizer)
        # What is not finite by itself is no reason to change the factor.
        self.scaler.update(None if finite or overflow or not self.scaler.is_enabled() else self.scaler.get_scale())
        self.forget()
        if not finite and not overflow:
            raise NotFiniteError(named)
        return finite

    def _is_overflow(self) -> bool:
        """Whether a gradient is not finite because of the factor on the loss: the losses are, on all ranks."""
        if not self.scaler.is_enabled() or self.scaler.get_scale() <= _LEAST_SCALE:
            return False
        return not any(self._ranks.any(not all(bool(torch.isfinite(loss)) for loss in self._losses)))

    def forget(self) -> None:
        """Drop the gradients so far."""
        self._losses.clear()
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
