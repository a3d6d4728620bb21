"""The Stepper: one rollout, three uses: `train_batch`, `validate_batch`, `inference`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.train_data import Batch
from ocean_emulators.datasets.requirements import DataRequirements
from ocean_emulators.losses.masked import MaskedLoss
from ocean_emulators.models.base import BaseModelConfig


@dataclass(frozen=True)
class BatchOutput:
    """What a batch gave."""

    grid: str
    """name of the grid that the batch was on"""
    loss: Tensor
    """scalar; on the graph when it comes from `train_batch`"""
    losses: Tensor
    """[window, model step, output state, channel], detached"""
    fields: "Fields | None" = None
    """from `validate_batch`, what the losses are of"""

    @property
    def channel_loss(self) -> Tensor:
        """[model step, channel]"""
        return self.losses.mean((0, 2))


@dataclass(frozen=True)
class Fields:
    """Normalised fields of a rollout over windows, land zero."""

    initial: Tensor
    """[window, channel, lat, lon], the last state given"""
    predicted: Tensor
    """[window, step, channel, lat, lon]"""
    truth: Tensor
    """[window, step, channel, lat, lon]"""


class Stepper:
    """Moves an emulator through time, on normalised channels.

    Parameters
    ----------
    model: maps (states, forcing) to the next states, see `BaseModel.forward`
    config: the model's configuration, which says what times a model step reads and writes
    losses: by the name of the grid; needed for training and validation only
    detach_every: training cuts the gradient before every n-th model step; 0 never does
    input_noise: by the name of the grid, standard deviation of noise on the states that training begins from,
        [channel, lat, lon], normalised; empty for none
    """

    def __init__(
        self,
        model: nn.Module,
        config: BaseModelConfig,
        losses: Mapping[str, MaskedLoss] = {},
        detach_every: int = 0,
        input_noise: Mapping[str, Tensor] = {},
    ) -> None:
        self.model, self.config, self.losses = model, config, losses
        self.detach_every, self.input_noise = detach_every, input_noise

    @property
    def requirements(self) -> DataRequirements:
        """The times that one model step reads and writes."""
        return self.config.requirements

    def rollout(
        self, states: Tensor, forcing: Callable[[int], Tensor], model_steps: int, grid: str | None = None
    ) -> Iterator[Tensor]:
        """Feed the emulator its own output.

        Parameters
        ----------
        states: [batch, input state, channel, lat, lon], normalised
        forcing: for each model step, counted from 0, its forcing, [batch, forcing time, forcing channel, lat, lon]
        model_steps: how often to call the model
        grid: the name of the grid that they are on; None where the model was built for one alone

        Yields
        ------
        [batch, output state, channel, lat, lon] for each model step
        """
        for model_step in range(model_steps):
            if model_step and self.detach_every and model_step % self.detach_every == 0:
                states = states.detach()
            predicted = self.model(states, forcing(model_step), grid)
            yield predicted
            states = torch.cat([states, predicted], dim=1)[:, -self.config.input_states :]

    def train_batch(self, batch: Batch, model_steps: int, generator: torch.Generator | None = None) -> BatchOutput:
        """Loss of a rollout over windows; call `loss.backward()` on it. `generator` draws the input noise."""
        self.model.train()
        return self._loss_of_windows(batch, model_steps, lambda states: self._with_noise(states, batch.grid, generator))

    @torch.no_grad()
    def validate_batch(self, batch: Batch, model_steps: int) -> BatchOutput:
        """The same without gradients and with the model in evaluation mode."""
        self.model.eval()
        return self._loss_of_windows(batch, model_steps, lambda states: states)

    def _with_noise(self, states: Tensor, grid: str, generator: torch.Generator | None) -> Tensor:
        if not self.input_noise:
            return states
        noise = torch.randn(states.shape, generator=generator, device=states.device)
        return states + self.input_noise[grid] * noise

    def _loss_of_windows(self, batch: Batch, model_steps: int, perturb: Callable[[Tensor], Tensor]) -> BatchOutput:
        needs, now = self.requirements, self.requirements.past
        initial = perturb(batch.prognostic[:, now - needs.input_states + 1 : now + 1])

        def forcing_of(model_step: int) -> Tensor:
            return batch.forcing[:, [now + offset for offset in needs.forcing_offsets(model_step)]]

        loss = self.losses[batch.grid]
        losses, states, truths = [], [], []
        for model_step, predicted in enumerate(self.rollout(initial, forcing_of, model_steps, batch.grid)):
            first = now + 1 + model_step * needs.output_states
            truth = batch.prognostic[:, first : first + needs.output_states]
            pairs = zip(predicted.flatten(0, 1), truth.flatten(0, 1), strict=True)
            raw = torch.stack([loss(p[None, None], t[None, None]) for p, t in pairs])
            losses.append(raw.unflatten(0, predicted.shape[:2]))
            states.append(predicted.detach())
            truths.append(truth)
        together = torch.stack(losses, dim=1)
        fields = None
        if not torch.is_grad_enabled():
            fields = Fields(initial[:, -1], torch.cat(states, 1), torch.cat(truths, 1))
        return BatchOutput(batch.grid, together.mean(), together.detach(), fields)

    @torch.no_grad()
    def inference(self, data: InferenceDataset, starts: Sequence[int], steps: int) -> Iterator[Tensor]:
        """Free rollouts from several starts; for each step the predicted states [start, channel, lat, lon], normalised."""
        self.model.eval()
        model_steps = -(-steps // self.config.output_states)
        left = steps
        for predicted in self.rollout(
            data.initial(starts), lambda model_step: data.forcing(starts, model_step), model_steps
        ):
            yield from predicted.unbind(1)[:left]
            left -= predicted.shape[1]
