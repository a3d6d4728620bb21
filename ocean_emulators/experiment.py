"""The root configuration, what `params.yaml` is, and its checks across sections."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, model_validator

from ocean_emulators.config.base import Config, did_you_mean, parse
from ocean_emulators.config.overrides import apply_overrides
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.eval.config import CompareSections, ComparisonConfig, EvaluateSections, EvaluationConfig
from ocean_emulators.models.families import ModelConfig
from ocean_emulators.train.config import TrainConfig, TrainSections
from ocean_emulators.workspace import PARAMS


class Experiment(Config):
    name: str = Field(max_length=250, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$")
    """name of the MLflow experiment that the runs stand under"""
    data: DataConfig
    """what is learned from and predicted"""
    model: ModelConfig
    """the emulator"""
    train: TrainConfig
    """how it is trained"""
    evaluation: EvaluationConfig = EvaluationConfig()
    """how it is rolled out and scored on the test period"""
    comparison: ComparisonConfig = ComparisonConfig()
    """what it is compared with"""

    @model_validator(mode="after")
    def _weighted_fields_are_predicted(self) -> "Experiment":
        weights = self.train.loss.field_weights or {}
        for name in weights:
            if name not in self.data.prognostic:
                raise ValueError(
                    f"train.loss.field_weights: {name!r} is not predicted; {did_you_mean(name, self.data.prognostic)}"
                )
        if all(weights.get(name) == 0 for name in self.data.prognostic):
            raise ValueError(
                "train.loss.field_weights: all are 0, so that nothing would be learnt; give one field more"
            )
        return self

    @model_validator(mode="after")
    def _best_is_of_a_field(self) -> "Experiment":
        name = self.train.best_by.rpartition("/")[2]
        if self.train.best_by.startswith("val/rollout/") and name not in ("mean", *self.data.prognostic):
            raise ValueError(
                f"train.best_by: {self.train.best_by!r}: {name!r} is not predicted; "
                f"{did_you_mean(name, ['mean', *self.data.prognostic])}"
            )
        return self

    @model_validator(mode="after")
    def _grids_are_prepared(self) -> "Experiment":
        prepared = self.data.grids
        if len(self.train.passes) > len(prepared):
            raise ValueError(
                f"train.passes: {list(self.train.passes)} are more than the grids of data.coarsen, {list(self.data.coarsen)}"
            )
        if self.evaluation.grid not in (None, *prepared):
            raise ValueError(
                f"evaluation.grid: found {self.evaluation.grid!r}, which data.coarsen does not prepare (there are: "
                f"{', '.join(prepared)}); add its factor there, or choose one of those"
            )
        if self.model.positional_channels and len(self.used) > 1:
            raise ValueError(
                f"model.positional_channels: {self.model.positional_channels} inputs are learned for the cells of one grid, "
                f"but grids {', '.join(self.used)} are used (train.passes, evaluation.grid); use 0, and coordinates: true "
                "instead"
            )
        return self

    @property
    def training(self) -> TrainSections:
        """What training reads."""
        return TrainSections(data=self.data, model=self.model, train=self.train)

    @property
    def evaluating(self) -> EvaluateSections:
        """What evaluation reads."""
        return EvaluateSections(data=self.data, evaluation=self.evaluation)

    @property
    def comparing(self) -> CompareSections:
        """What comparison reads."""
        return CompareSections(data=self.data, evaluation=self.evaluation, comparison=self.comparison)

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the grids that are trained on or rolled out, those trained on first."""
        return tuple(dict.fromkeys([*self.training.passes, self.evaluating.grid]))


def load_experiment(path: Path = PARAMS, overrides: Sequence[str] = ()) -> Experiment:
    """Read and validate an experiment, with changes `a.b=value` that are written nowhere.

    Raises
    ------
    UserError
        Naming the file, the key, what was found, and what would be right.
    """
    tree = load_yaml(path)
    return parse(Experiment, apply_overrides(Experiment, tree, [*overrides]) if overrides else tree, str(path))
