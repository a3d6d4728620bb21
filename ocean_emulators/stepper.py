"""The Stepper: one rollout, three uses: `train_batch`, `validate_batch`, `inference`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.train_data import Batch
from ocean_emulators.datasets.requirements import DataRequirements
from ocean_emulators.losses.rollout import RolloutLoss
from ocean_emulators.models.base import BaseModelConfig


@dataclass(frozen=True)
class BatchOutput:
    """What a batch gave."""

    grid: str
    """name of the grid that the batch was on"""
    loss: Tensor
    """scalar; on the graph when it comes from `train_batch`"""
    losses: Tensor
    """[window, model step, output state, channel], detached, before they are weighed by how hard a channel is"""
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
    loss: needed for training and validation only
    detach_every: training cuts the gradient before every n-th model step; 0 never does
    input_noise: by the name of the grid, standard deviation of noise on the states that training begins from,
        [channel, lat, lon], normalised; empty for none
    """

    def __init__(
        self,
        model: nn.Module,
        config: BaseModelConfig,
        loss: RolloutLoss | None = None,
        detach_every: int = 0,
        input_noise: Mapping[str, Tensor] = {},
    ) -> None:
        self.model, self.config, self.loss = model, config, loss
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

    def train_batch(self, batch: Batch, model_steps: int, generators: Sequence[torch.Generator] = ()) -> BatchOutput:
        """Loss of a rollout over windows; call `loss.backward()` on it. `generators`, one a window, draw the input noise."""
        self.model.train()
        initial = self._initial(batch)
        if self.input_noise:
            noise = [
                torch.randn(s.shape, generator=g, device=s.device) for s, g in zip(initial, generators, strict=True)
            ]
            initial = initial + self.input_noise[batch.grid] * torch.stack(noise)
        losses = [error for error, _, _ in self._rollout_of(batch, initial, model_steps)]
        return self._output(batch, losses)

    @torch.no_grad()
    def validate_batch(self, batch: Batch, model_steps: int) -> BatchOutput:
        """The same without gradients or noise, and with the model in evaluation mode."""
        self.model.eval()
        initial = self._initial(batch)
        losses, predicted, truth = zip(*self._rollout_of(batch, initial, model_steps), strict=True)
        return self._output(batch, losses, Fields(initial[:, -1], torch.cat(predicted, 1), torch.cat(truth, 1)))

    @torch.no_grad()
    def probe_batch(self, batch: Batch) -> Tensor:
        """Losses of one model step in training mode, [window, 1, output state, channel]; what training drew is not undone."""
        self.model.train()
        losses = [error for error, _, _ in self._rollout_of(batch, self._initial(batch), 1)]
        return torch.stack(losses, 1)

    def _initial(self, batch: Batch) -> Tensor:
        needs, now = self.requirements, self.requirements.past
        return batch.prognostic[:, now - needs.input_states + 1 : now + 1]

    def _rollout_of(self, batch: Batch, initial: Tensor, model_steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For each model step its losses, [window, output state, channel], what was predicted, and what was true."""
        assert self.loss is not None, "a stepper without a loss neither trains nor validates"
        needs, now = self.requirements, self.requirements.past

        def forcing_of(model_step: int) -> Tensor:
            return batch.forcing[:, [now + offset for offset in needs.forcing_offsets(model_step)]]

        for model_step, predicted in enumerate(self.rollout(initial, forcing_of, model_steps, batch.grid)):
            first = now + 1 + model_step * needs.output_states
            truth = batch.prognostic[:, first : first + needs.output_states]
            yield self.loss.errors(predicted, truth, batch.grid), predicted, truth

    def _output(self, batch: Batch, losses: Sequence[Tensor], fields: Fields | None = None) -> BatchOutput:
        assert self.loss is not None
        together = torch.stack(tuple(losses), 1)
        return BatchOutput(batch.grid, self.loss.total(together), together.detach(), fields)

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
