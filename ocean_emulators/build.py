"""The one wiring: from configuration and prepared grids to a trainer, and from a checkpoint to an emulator."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ocean_emulators.aggregator.train import TrainAggregator
from ocean_emulators.aggregator.validate import ValidateAggregator
from ocean_emulators.cost import TRAINING_COPIES, build_without_values, memory_of, require_memory, training_flops
from ocean_emulators.datasets.loading.inference_dataset import InferenceDataset
from ocean_emulators.datasets.loading.loader import Loader
from ocean_emulators.datasets.loading.rows import Rows
from ocean_emulators.datasets.loading.samplers import BatchSampler, SequentialBatches, seed_of
from ocean_emulators.datasets.loading.train_data import TrainData, Windows
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.distributed import ALONE, Ranks
from ocean_emulators.losses.grid import LossGrid
from ocean_emulators.losses.rollout import RolloutLoss
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.layers.blocks import synchronise_norms
from ocean_emulators.models.released.weights import read_weights
from ocean_emulators.runtime import Runtime
from ocean_emulators.stepper import Stepper
from ocean_emulators.train.averages import Averages
from ocean_emulators.train.checkpoint_store import CheckpointStore
from ocean_emulators.train.checkpoints import Checkpoint
from ocean_emulators.train.config import InitialWeights, TrainSections
from ocean_emulators.train.one_batch import OneBatch
from ocean_emulators.train.optimisation import Optimisation
from ocean_emulators.train.parts import QUIET, Reports, Saving, TrainingLoaders
from ocean_emulators.train.rollout_steps import Phase, Phases
from ocean_emulators.train.rollout_validation import RolloutScores
from ocean_emulators.train.throughput import Throughput, peak_flops_per_second
from ocean_emulators.train.trainer import Trainer
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
    folder: Path,
    reports: Reports = QUIET,
    ranks: Ranks = ALONE,
) -> Trainer:
    """A training on some grids together, or a rank of it; it saves its states to `folder`, and reports while it runs.

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
    synchronise_norms(model, ranks)
    torch.manual_seed(seed_of(config.seed, ranks.rank))  # what ranks draw from here on differs
    stepper = Stepper(
        model,
        sections.model,
        _loss(sections, grids),
        config.detach_every,
        {name: _input_noise(config.input_noise, grid) for name, grid in grids.items()} if config.input_noise else {},
    )
    prognostic, names = first.store.prognostic, list(grids)
    steps = config.rollout_steps[-1] * sections.model.output_states
    return Trainer(
        config,
        stepper,
        _loaders(sections, grids, runtime, ranks),
        Optimisation(config, model, ranks, scaled=sections.model.precision == "float16"),
        Averages(model, config.ema_decay, config.ema_warmup),
        (
            TrainAggregator(prognostic, names, device, ranks),
            ValidateAggregator(grids, steps, ranks),
        ),
        CheckpointStore(folder, runtime.checkpoints_kept),
        reports,
        ranks,
        Saving(60 * runtime.checkpoint_minutes, runtime.checkpoint_steps),
        _rollout_scores(sections, stepper, first, ranks),
        Throughput(
            partial(training_flops, sections.model, oceans),
            partial(peak_flops_per_second, device, sections.model.precision),
            **{"after_s": 0.0} if runtime.repeat_batch else {},
        ),
        folder.parent / "trace.json" if runtime.profile and ranks.first else None,
    )


def _loaders(
    sections: TrainSections, grids: Mapping[str, PreparedGrid], runtime: Runtime, ranks: Ranks
) -> TrainingLoaders:
    config, needs = sections.train, sections.model.requirements
    cache = runtime.cache if config.epochs else "none"  # nothing is read where nothing is learned

    def rows(period: str) -> dict[str, Rows]:
        dates = getattr(sections.data.periods, period)
        return {n: Rows(g.store, g.packing, g.store.indices(dates, period), cache) for n, g in grids.items()}

    def data(rows: Mapping[str, Rows], period: str, steps: int, strides: Sequence[int]) -> TrainData:
        return TrainData({n: Windows(r, period, needs, steps, strides) for n, r in rows.items()})

    def loader(phase: Phase) -> Loader:
        windows = data(train, "train", phase.longest, config.strides)
        draw = phase.model_steps if len(phase.steps) > 1 else None
        sampler = BatchSampler(windows.sizes, config.batch_size, config.seed, sections.passes, ranks, draw)
        return (OneBatch if runtime.repeat_batch else Loader)(windows, sampler, runtime.prefetch)

    train, validation = rows("train"), data(rows("validation"), "validation", config.rollout_steps[-1], (1,))
    in_order = [
        SequentialBatches(validation.sizes, config.batch_size, replace(ranks, rank=rank))
        for rank in range(ranks.world_size)
    ]
    return TrainingLoaders(
        [loader(phase) for phase in Phases(config).phases],
        Loader(validation, in_order[ranks.rank], runtime.prefetch),
        max(map(len, in_order)),
    )


def _rollout_scores(
    sections: TrainSections, stepper: Stepper, grid: PreparedGrid, ranks: Ranks
) -> RolloutScores | None:
    config, store, packing = sections.train.rollout_validation, grid.store, grid.packing
    if config is None:
        return None
    times = store.indices(sections.data.periods.validation, "validation")
    data = InferenceDataset(Rows(store, packing, times, "none"), "validation", sections.model.requirements)
    area = torch.as_tensor(np.stack([store.grid.wet_area(c.mask_level) for c in packing.prognostic]))
    of_cells = area[packing.prognostic_mask.cpu()].float().to(packing.device)
    return RolloutScores(config, stepper, data, of_cells, grid.name, ranks)


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


def _loss(sections: TrainSections, grids: Mapping[str, PreparedGrid]) -> RolloutLoss:
    of_grids = {
        name: LossGrid.of(context_of(grid), grid.store.grid, grid.store.prognostic) for name, grid in grids.items()
    }
    return sections.train.loss.build(of_grids).to(next(iter(grids.values())).packing.device)


def _input_noise(share: float, grid: PreparedGrid) -> Tensor:
    """Standard deviation, [channel, lat, lon], normalised."""
    scale = share * context_of(grid).change_scale[:, None, None]
    return scale.to(grid.packing.device) * grid.packing.prognostic_mask
