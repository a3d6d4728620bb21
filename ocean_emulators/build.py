"""The one wiring: from configuration and prepared grids to a trainer, and from a checkpoint to an emulator."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ocean_emulators.aggregator.train import TrainAggregator
from ocean_emulators.aggregator.validate import ValidateAggregator
from ocean_emulators.cost import TRAINING_COPIES, build_without_values, memory_of, require_memory
from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.loading.train_data import TrainData, Windows
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.losses.masked import MaskedLoss
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.released.weights import read_weights
from ocean_emulators.runtime import Runtime
from ocean_emulators.stepper import Stepper
from ocean_emulators.train.checkpoints import Checkpoint
from ocean_emulators.train.config import InitialWeights, TrainSections
from ocean_emulators.train.trainer import Report, Trainer
from ocean_emulators.workspace import Workspace


def open_grids(workspace: Workspace, sections: TrainSections, device: torch.device) -> dict[str, PreparedGrid]:
    """The grids that are trained on, by name, the one that all are normalised by first.

    Raises
    ------
    UserError
        If one was not prepared, or is damaged.
    """
    return {name: PreparedGrid.open(workspace, sections.data, name, device) for name in sections.passes}


def build_trainer(
    sections: TrainSections,
    grids: Mapping[str, PreparedGrid],
    runtime: Runtime,
    workspace: Workspace,
    checkpoint: Path,
    report: Report,
) -> Trainer:
    """A training on some grids together; it saves its state to `checkpoint`, and reports each epoch.

    Raises
    ------
    UserError
        For a grid that the model can't run on, a model whose weights the device's memory can't train, initial weights of
        another model, or a period that is too short.
    """
    config = sections.train
    first = next(iter(grids.values()))
    oceans, device = [context_of(grid) for grid in grids.values()], first.packing.device
    require_memory(build_without_values(sections.model, oceans), TRAINING_COPIES, memory_of(device))
    torch.manual_seed(config.seed)
    model = sections.model.build(*oceans).to(device)
    if config.initial_weights:
        _begin_from(config.initial_weights, workspace, model, first)
    stepper = Stepper(
        model,
        sections.model,
        {name: _loss(sections, grid) for name, grid in grids.items()},
        config.detach_every,
        {name: _input_noise(config.input_noise, grid) for name, grid in grids.items()} if config.input_noise else {},
    )
    cache = runtime.cache if config.epochs else "none"  # nothing is read where nothing is learned

    def rows(period: str) -> dict[str, Rows]:
        dates = getattr(sections.data.periods, period)
        return {n: Rows(g.store, g.packing, g.store.indices(dates, period), cache) for n, g in grids.items()}

    def data(rows: Mapping[str, Rows], period: str, steps: int, strides: Sequence[int]) -> TrainData:
        return TrainData({n: Windows(r, period, stepper.requirements, steps, strides) for n, r in rows.items()})

    train, validation = rows("train"), rows("validation")
    return Trainer(
        config,
        stepper,
        [data(train, "train", steps, config.strides) for steps in config.rollout_steps],
        data(validation, "validation", config.rollout_steps[-1], (1,)),
        sections.passes,
        runtime.prefetch,
        TrainAggregator(first.store.prognostic, list(grids)),
        ValidateAggregator(first.store.prognostic, list(grids)),
        checkpoint,
        report,
    )


def build_emulator(checkpoint: Checkpoint, grid: PreparedGrid, path: Path) -> Stepper:
    """The emulator of a checkpoint, with its averaged weights, for a prepared grid; `path` is what messages name.

    Raises
    ------
    UserError
        If it was trained on other data, its weights are not those of its model, or the device's memory can't hold them.
    """
    checkpoint.require_matches(grid, path)
    config, ocean, device = checkpoint.model_config, context_of(grid), grid.packing.device
    require_memory(build_without_values(config, [ocean]), 1, memory_of(device))
    model = config.build(ocean)
    checkpoint.weights(path).put_into(model)
    return Stepper(model.to(device), config)


def context_of(grid: PreparedGrid) -> OceanContext:
    """What a model must know of a grid."""
    return OceanContext.of(grid.packing, grid.statistics, grid.store.grid, grid.name)


def _begin_from(initial: InitialWeights, workspace: Workspace, model: nn.Module, grid: PreparedGrid) -> None:
    weights = read_weights(initial.find(workspace), initial.averaged)
    weights.require_channels([c.name for c in grid.store.channels])
    weights.put_into(model)


def _loss(sections: TrainSections, grid: PreparedGrid) -> MaskedLoss:
    channels = grid.store.prognostic
    area = torch.as_tensor(np.stack([grid.store.grid.wet_area(c.mask_level) for c in channels]))
    loss = sections.train.loss.build(context_of(grid), [c.field.name for c in channels], area)
    return loss.to(grid.packing.device)


def _input_noise(share: float, grid: PreparedGrid) -> Tensor:
    """Standard deviation, [channel, lat, lon], normalised."""
    scale = share * context_of(grid).change_scale[:, None, None]
    return scale.to(grid.packing.device) * grid.packing.prognostic_mask
