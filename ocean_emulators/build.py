"""The one wiring: from configuration and prepared grids to a trainer, and from a checkpoint to an emulator."""

from collections.abc import Mapping
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
from ocean_emulators.train.parts import QUIET, Cadence, Reports
from ocean_emulators.train.rollout_steps import Phase, Phases
from ocean_emulators.train.rollout_validation import RolloutScores
from ocean_emulators.train.throughput import Throughput, peak_flops_per_second
from ocean_emulators.train.trainer import Trainer
from ocean_emulators.train.validation import Validation
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
    return Trainer(
        config,
        stepper,
        _training_loaders(sections, grids, runtime, ranks),
        _validation(sections, grids, runtime, ranks, stepper),
        Optimisation(config, model, ranks, scaled=sections.model.precision == "float16"),
        Averages(model, config.ema_decay, config.ema_warmup),
        TrainAggregator(first.store.prognostic, list(grids), device, ranks),
        CheckpointStore(folder, runtime.checkpoints_kept),
        reports,
        ranks,
        Cadence(60 * runtime.checkpoint_minutes, runtime.checkpoint_steps, runtime.log_steps),
        Throughput(
            partial(training_flops, sections.model, oceans),
            partial(peak_flops_per_second, device, sections.model.precision),
            **{"after_s": 0.0} if runtime.repeat_batch else {},
        ),
        folder.parent / "trace.json" if runtime.profile and ranks.first else None,
    )


def _rows(period: str, sections: TrainSections, grids: Mapping[str, PreparedGrid], runtime: Runtime) -> dict[str, Rows]:
    dates = getattr(sections.data.periods, period)
    cache = runtime.cache if sections.train.epochs else "none"  # nothing is read where nothing is learned
    return {n: Rows(g.store, g.packing, g.store.indices(dates, period), cache) for n, g in grids.items()}


def _training_loaders(
    sections: TrainSections, grids: Mapping[str, PreparedGrid], runtime: Runtime, ranks: Ranks
) -> list[Loader]:
    """One for each of `Phases`."""
    config, needs = sections.train, sections.model.requirements
    rows = _rows("train", sections, grids, runtime)

    def loader(phase: Phase) -> Loader:
        windows = TrainData({n: Windows(r, "train", needs, phase.longest, config.strides) for n, r in rows.items()})
        draw = phase.model_steps if len(phase.steps) > 1 else None
        sampler = BatchSampler(windows.sizes, config.batch_size, config.seed, sections.passes, ranks, draw)
        return (OneBatch if runtime.repeat_batch else Loader)(windows, sampler, runtime.prefetch)

    return [loader(phase) for phase in Phases(config).phases]


def _validation(
    sections: TrainSections, grids: Mapping[str, PreparedGrid], runtime: Runtime, ranks: Ranks, stepper: Stepper
) -> Validation:
    config, needs = sections.train, sections.model.requirements
    model_steps, rows = config.rollout_steps[-1], _rows("validation", sections, grids, runtime)
    windows = TrainData({n: Windows(r, "validation", needs, model_steps) for n, r in rows.items()})
    in_order = [
        SequentialBatches(windows.sizes, config.batch_size, replace(ranks, rank=rank))
        for rank in range(ranks.world_size)
    ]
    return Validation(
        stepper,
        Loader(windows, in_order[ranks.rank], runtime.prefetch),
        max(map(len, in_order)),
        model_steps,
        ValidateAggregator(grids, model_steps * needs.output_states, ranks),
        _rollout_scores(sections, stepper, next(iter(grids.values())), ranks),
        ranks,
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
