"""What an experiment will do and cost, known before any work."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from ocean_emulators.cost import Cost, build_without_values, cost_of_model_step
from ocean_emulators.datasets.loading.samplers import BatchSampler
from ocean_emulators.eval.config import FILE_BYTES
from ocean_emulators.experiment import Experiment
from ocean_emulators.models.base import PRECISIONS, OceanContext, Precision
from ocean_emulators.models.layers.activation_checkpointing import CHECKPOINTING, Checkpointing
from ocean_emulators.models.released.weights import Weights
from ocean_emulators.ocean import calendar
from ocean_emulators.outlook import Outlook, look_ahead, times_of_periods, within_periods
from ocean_emulators.parallel import GIB
from ocean_emulators.train.rollout_steps import Phases

_BYTES = 4
_COPIES = 3
"""States of a rollout: given, inside the network and predicted."""
_BATCHES = 2
"""Batches of training windows: one that is trained on, and the next."""
_VALIDATION_FIELDS = 2
"""States whose size validation keeps for its scores: weights of cells, and of gradients."""
_SCORING_ROWS = 26
"""Rows, counted in float32, while scores are summed: prediction, truth, climatology and all statistics, in float64."""


@dataclass(frozen=True)
class Plan:
    """What an experiment will do."""

    experiment: Experiment
    outlook: Outlook
    step_days: float
    times: dict[str, int]
    """number of times in each period"""
    gaps: dict[str, int]
    """number of steps in each period that a leap day makes one day longer"""
    costs: dict[tuple[Precision, Checkpointing], Cost]
    """of a model step, on the largest grid that is trained on, by precision and by what is kept for back-propagation"""
    memory_gib: dict[str, float]
    """estimates"""
    predictions_gib: float
    """what the predictions of the free run take on the disk, before they are compressed"""

    @property
    def cost(self) -> Cost:
        """Of a model step as the experiment makes it."""
        model = self.experiment.model
        return self.costs[model.precision, model.checkpointing]

    @property
    def optimiser_steps(self) -> int:
        """Of the whole training, at least: epochs of shorter rollouts have a few windows more than are counted here."""
        training = self.experiment.train
        sizes = dict.fromkeys(self.experiment.training.passes, self.outlook.windows["train"])
        return training.epochs * len(
            BatchSampler(sizes, training.batch_size, training.seed, self.experiment.training.passes)
        )

    @property
    def training_flops(self) -> float:
        """Arithmetic of the whole training but for its validation; at most, where it is on several grids."""
        training = self.experiment.train
        phases = Phases(training)
        of_epochs = (phases.phases[phases.of(epoch)] for epoch in range(training.epochs))
        model_steps = sum(
            sum(k * p for k, p in zip(phase.steps, phase.probabilities, strict=True)) for phase in of_epochs
        )
        return sum(training.passes) * self.outlook.windows["train"] * model_steps * self.cost.training_flops

    def training_gib(self, processes: int = 1) -> float:
        """Memory, GiB, that each of so many processes takes to train, beside the data that are held."""
        trained = {name: self.outlook.contexts[name] for name in self.experiment.training.passes}
        batch = -(-self.experiment.train.batch_size // processes)
        return _training_bytes(self.experiment, self.cost, trained, batch) / GIB

    def largest_batches(self, memory_bytes: float) -> dict[tuple[Precision, Checkpointing], int]:
        """How many windows could be trained on together in so much memory."""
        steps = max(self.experiment.train.rollout_steps)
        return {kind: cost.largest_batch(steps, memory_bytes) for kind, cost in self.costs.items()}


def make_plan(
    experiment: Experiment,
    variants: bool = False,
    weights: Weights | None = None,
    memory_bytes: float | None = None,
) -> Plan:
    """Check everything that can be known before any work, and say what the work will be and cost.

    Parameters
    ----------
    variants: find the cost for all precisions and all kinds of activation checkpointing
    weights: those to begin from
    memory_bytes: what there is to train in, see `look_ahead`

    Raises
    ------
    UserError
        As `look_ahead`, and for weights of another model.
    """
    outlook = look_ahead(experiment, memory_bytes)
    if weights:
        data = experiment.data
        weights.require_channels([channel.name for channel in data.prognostic_channels + data.forcing_channels])
        weights.require_fit(build_without_values(experiment.model, [*outlook.contexts.values()]))
    return plan_of(experiment, outlook, variants)


def plan_of(experiment: Experiment, outlook: Outlook, variants: bool = False) -> Plan:
    """The plan of an experiment that is known to work; `variants` as in `make_plan`."""
    model = experiment.model
    trained = {name: outlook.contexts[name] for name in experiment.training.passes}
    largest = _largest(trained)
    kinds = [*product(PRECISIONS, CHECKPOINTING)] if variants else [(model.precision, model.checkpointing)]
    contexts = list(outlook.contexts.values())
    costs = {
        (p, c): cost_of_model_step(model.replace(precision=p, checkpointing=c), contexts, largest) for p, c in kinds
    }
    times = times_of_periods(experiment, outlook.time)
    state_size = outlook.contexts[experiment.evaluating.grid].mask.numel()
    memory = {
        "data held in memory": _held_bytes(experiment, outlook, times),
        "training": _training_bytes(
            experiment, costs[model.precision, model.checkpointing], trained, experiment.train.batch_size
        ),
        "evaluation": _evaluation_bytes(experiment, outlook, state_size),
    }
    return Plan(
        experiment=experiment,
        outlook=outlook,
        step_days=calendar.step_days(outlook.time),
        times=times,
        gaps={
            name: len(calendar.leap_gaps(outlook.time[inside]))
            for name, inside in within_periods(experiment, outlook.time).items()
        },
        costs=costs,
        memory_gib={name: size / GIB for name, size in memory.items()},
        predictions_gib=_BYTES * outlook.windows["free run steps"] * state_size / GIB,
    )


def _largest(contexts: Mapping[str, OceanContext]) -> str:
    """Name of the grid with most cells."""
    return max(contexts, key=lambda name: contexts[name].mask.numel())


def _held_bytes(experiment: Experiment, outlook: Outlook, times: Mapping[str, int]) -> int:
    per_value = _BYTES if experiment.data.storage == "float32" else _BYTES // 2
    cells = sum(outlook.wet_cells[name] for name in experiment.training.passes)
    return per_value * cells * (times["train"] + times["validation"])


def _training_bytes(experiment: Experiment, cost: Cost, trained: Mapping[str, OceanContext], windows: int) -> int:
    """Of a process that trains on so many windows of a batch."""
    ocean, longest = trained[_largest(trained)], max(experiment.train.rollout_steps)
    n_channels, (n_lat, n_lon) = ocean.n_prognostic + ocean.n_forcing, ocean.grid_shape
    batch = windows * experiment.model.requirements.length(longest) * n_channels * n_lat * n_lon
    validation = _VALIDATION_FIELDS * sum(context.mask.numel() for context in trained.values())
    return cost.training_bytes(longest, windows) + _BYTES * (_BATCHES * batch + validation)


def _evaluation_bytes(experiment: Experiment, outlook: Outlook, state_size: int) -> int:
    model, rolled_out = experiment.model, outlook.wet_cells[experiment.evaluating.grid]
    states = state_size * (model.input_states + model.output_states)
    rows = _COPIES * states + _SCORING_ROWS * rolled_out
    return _BYTES * experiment.evaluation.batch_size * rows + FILE_BYTES
