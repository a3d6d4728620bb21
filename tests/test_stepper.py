"""The one rollout: which forcing meets which state, what is scored against what, where gradients stop."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.loading.train_data import Batch, Draw, Windows
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.experiment import Experiment
from ocean_emulators.losses.config import LossConfig
from ocean_emulators.losses.grid import LossGrid
from ocean_emulators.losses.rollout import RolloutLoss
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.samudra import SamudraConfig
from ocean_emulators.stepper import Stepper

PRESENT_AND_NEXT = SamudraConfig(input_states=1, output_states=1, forcing_times=(0, 1))
PAIRS = SamudraConfig(input_states=2, output_states=2, forcing_times=(-1, 0))


class Linear(nn.Module):
    """Output state o is gain · last state + 0.3 · first state + Σ (j + 1) / 10 · forcing j + o / 20."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.gain, self.outputs = nn.Parameter(torch.tensor(0.6)), outputs

    def forward(self, states: Tensor, forcing: Tensor, grid: str | None = None) -> Tensor:
        weights = (1 + torch.arange(forcing.shape[1])) / 10
        driven = torch.einsum("bjcyx,j->byx", forcing, weights)[:, None]
        state = self.gain * states[:, -1] + 0.3 * states[:, 0] + driven
        return torch.stack([state + o / 20 for o in range(self.outputs)], dim=1)


def by_hand(config: SamudraConfig, p: Tensor, f: Tensor, now: int) -> list[Tensor]:
    """The first four states after time `now` of [time, channel, lat, lon], written out."""
    f = f.sum(1, keepdim=True)
    if config is PRESENT_AND_NEXT:
        states = [p[now]]
        for t in range(now, now + 4):
            states.append(0.6 * states[-1] + 0.3 * states[-1] + 0.1 * f[t] + 0.2 * f[t + 1])
        return states[1:]
    a = 0.6 * p[now] + 0.3 * p[now - 1] + 0.1 * f[now - 1] + 0.2 * f[now]
    b = a + 0.05
    c = 0.6 * b + 0.3 * a + 0.1 * f[now + 1] + 0.2 * f[now + 2]
    return [a, b, c, c + 0.05]


@pytest.fixture
def packing(store: PackedStore, statistics: Statistics) -> Packing:
    return Packing.of(store, statistics)


def batch_of(packing: Packing, store: PackedStore, first: int, windows: int, length: int) -> Batch:
    """Windows that follow each other."""
    fields = packing.unpack(torch.cat(store.stored(first, first + windows * length))).unflatten(0, (windows, length))
    return Batch(fields[:, :, packing.prognostic_channels], fields[:, :, packing.forcing_channels])


def mean_square(predicted: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """[channel] of [channel, lat, lon], over wet cells."""
    return torch.stack([((a - b)[wet] ** 2).mean() for a, b, wet in zip(predicted, truth, mask, strict=True)])


def loss_of(store: PackedStore, statistics: Statistics, packing: Packing) -> RolloutLoss:
    context = OceanContext.of(packing, statistics, store.grid)
    return LossConfig(unit="state").build({"x1": LossGrid.of(context, store.grid, store.prognostic)})


@pytest.mark.parametrize("config", [PRESENT_AND_NEXT, PAIRS], ids=["1-1", "2-2"])
def test_training_validation_and_inference_make_the_rollout_written_out_by_hand(
    config: SamudraConfig, store: PackedStore, statistics: Statistics, packing: Packing, experiment: Experiment
) -> None:
    loss = loss_of(store, statistics, packing)
    stepper = Stepper(Linear(config.output_states), config, loss)
    period = experiment.data.periods.test
    rows = Rows(store, packing, store.indices(period, "test"), "none")
    calls = 4 // config.output_states
    windows = Windows(rows, "test", stepper.requirements, calls)
    data = InferenceDataset(rows, "test", stepper.requirements)
    whole = batch_of(packing, store, 0, 1, len(store.time))
    p, f = whole.prognostic[0], whole.forcing[0]

    picked = [0, 7]
    starts = [windows.starts[i][0] + stepper.requirements.past for i in picked]
    assert set(starts) <= set(data.starts(4, 1))
    expected = [by_hand(config, p, f, start) for start in starts]
    losses = torch.stack(
        [
            torch.stack([mean_square(x, p[start + 1 + k], packing.prognostic_mask) for k, x in enumerate(states)])
            for start, states in zip(starts, expected, strict=True)
        ]
    ).mean(0)
    losses = losses.unflatten(0, (calls, config.output_states)).mean(1)

    trained = stepper.train_batch(windows.load(Draw("x1", picked)), calls)
    assert torch.allclose(trained.channel_loss, losses, rtol=1e-4)
    assert trained.loss.item() == pytest.approx(losses.mean().item(), rel=1e-4)
    validated = stepper.validate_batch(windows.load(Draw("x1", picked)), calls)
    assert torch.equal(validated.channel_loss, trained.channel_loss)
    predicted = list(stepper.inference(data, starts, 4))
    assert len(predicted) == 4
    for k, states in enumerate(predicted):
        assert torch.allclose(states, torch.stack([e[k] for e in expected]), rtol=1e-4, atol=1e-4)


def test_inference_stops_after_the_steps_asked_for(
    store: PackedStore, packing: Packing, experiment: Experiment
) -> None:
    stepper = Stepper(Linear(2), PAIRS)
    rows = Rows(store, packing, store.indices(experiment.data.periods.test, "test"), "none")
    data = InferenceDataset(rows, "test", stepper.requirements)
    starts = data.starts(4, 5)
    three, four = (list(stepper.inference(data, starts, n)) for n in (3, 4))
    assert len(three) == 3
    assert all(torch.equal(a, b) for a, b in zip(three, four, strict=False))


class Gain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))

    def forward(self, states: Tensor, forcing: Tensor, grid: str | None = None) -> Tensor:
        return self.gain * states[:, -1:]


class MeanOfPrediction(nn.Module):
    def forward(self, predicted: Tensor, truth: Tensor) -> Tensor:
        return predicted.mean((-2, -1))


@pytest.mark.parametrize(
    ("detach_every", "slope"),
    [(0, lambda g: 1 + 2 * g + 3 * g**2), (1, lambda g: 1 + g + g**2), (2, lambda g: 1 + 2 * g + g**2)],
)
def test_gradients_stop_where_detached(
    detach_every: int, slope: Callable[[float], float], store: PackedStore, packing: Packing
) -> None:
    """x(k) = g^k x(0), and the loss is the mean of x: its derivative by g is known for any cut."""
    model = Gain()
    loss = RolloutLoss({"x1": [MeanOfPrediction()]}, torch.ones(len(store.prognostic)))
    stepper = Stepper(model, PRESENT_AND_NEXT, loss, detach_every)
    batch = batch_of(packing, store, 0, 1, 4)
    stepper.train_batch(batch, 3).loss.backward()
    first = batch.prognostic[:, 0].mean()
    assert model.gain.grad is not None
    assert model.gain.grad.item() == pytest.approx(slope(0.5) / 3 * first.item(), rel=1e-4)


def test_validation_leaves_no_trace(store: PackedStore, statistics: Statistics, packing: Packing) -> None:
    torch.manual_seed(0)
    config = SamudraConfig(widths=(4,), dilation=(1,), expansion=1, norm="batch")
    model = config.build(OceanContext.of(packing, statistics, store.grid))
    stepper = Stepper(model, config, loss_of(store, statistics, packing))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    output = stepper.validate_batch(batch_of(packing, store, 0, 2, 3), 2)
    assert not output.loss.requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    stepper.train_batch(batch_of(packing, store, 0, 2, 3), 2)
    assert any(not torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_noise_is_of_training_alone_and_follows_from_the_seed(
    store: PackedStore, statistics: Statistics, packing: Packing
) -> None:
    loss = loss_of(store, statistics, packing)
    batch = batch_of(packing, store, 0, 1, 3)
    noise = torch.ones(len(store.prognostic), 1, 1)
    noisy = Stepper(Gain(), PRESENT_AND_NEXT, loss, input_noise={"x1": noise})
    quiet = Stepper(Gain(), PRESENT_AND_NEXT, loss)

    def trained(seed: int) -> Tensor:
        return noisy.train_batch(batch, 2, [torch.Generator().manual_seed(seed)]).loss

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))
    assert torch.equal(noisy.validate_batch(batch, 2).loss, quiet.validate_batch(batch, 2).loss)
