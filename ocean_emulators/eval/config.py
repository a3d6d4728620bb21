"""How the emulator is rolled out and scored, and what it is compared with."""

import numpy as np
from pydantic import Field, field_validator, model_validator

from ocean_emulators.config.base import Config, shown
from ocean_emulators.config.bounds import Count, Days, Seed
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.errors import UserError
from ocean_emulators.forecasting.base import BASELINES

FILE_BYTES = 256 * 2**20
"""The most that a file of predictions holds, and that is held in memory until it is written."""


class EvaluationConfig(Config):
    lead_days: Days = 90.0
    """length of the forecasts from starts spread over the test period, days; a multiple of the data's time step"""
    grid: str | None = None
    """the prepared grid that is rolled out, such as x2 (data.coarsen: 2); null is the first; it need not be trained on"""
    start_every: Count = 1
    """distance of those starts, in time steps of the data"""
    batch_size: Count = 8
    """forecasts that run side by side; bounds the memory"""
    report_days: tuple[Days, ...] = Field((10.0, 20.0, 30.0, 60.0, 90.0), min_length=1)
    """leads shown in tables and summaries, days; those beyond lead_days are not reached, and left out"""

    @model_validator(mode="after")
    def _something_is_shown(self) -> "EvaluationConfig":
        if min(self.report_days) > self.lead_days:
            raise ValueError(
                f"report_days: found {shown(self.report_days)}, but the forecasts end after {self.lead_days:g} days "
                "(lead_days), and tables would be empty; give some up to that"
            )
        return self

    def steps(self, step_days: float) -> int:
        """The forecasts' length in time steps of the data."""
        return max(1, round(self.lead_days / step_days))

    def reported_leads(self, leads: np.ndarray) -> list[float]:
        """Those of the `leads` reached (days) that tables and summaries show."""
        return [float(lead) for lead in leads if np.isclose(lead, self.report_days).any()]


class ComparisonConfig(Config):
    baselines: tuple[str, ...] = ("persistence", "anomaly_persistence", "damped_anomaly_persistence", "climatology")
    """what to compare with"""
    bootstrap_draws: int = Field(1000, ge=0, le=100_000)
    """resamplings behind each interval"""
    bootstrap_block_days: Days = 30.0
    """length of the blocks of consecutive starts that are drawn together, days: neighbouring starts are not independent"""
    confidence: float = Field(0.95, gt=0, lt=1)
    """probability that intervals hold"""
    seed: Seed = 0
    """seed of the resampling"""

    @field_validator("baselines")
    @classmethod
    def _baselines_exist(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            try:
                BASELINES.get_or_refuse(name, "baselines")
            except UserError as error:
                raise ValueError(str(error)) from None
        if len(set(value)) < len(value):
            raise ValueError(f"found {list(value)}: expected each baseline once")
        return value


class EvaluateSections(Config):
    """The sections of an experiment that evaluation reads, and no others."""

    data: DataConfig
    """what is learned from and predicted"""
    evaluation: EvaluationConfig
    """how it is rolled out and scored"""

    @property
    def grid(self) -> str:
        """Name of the grid that is rolled out."""
        return self.evaluation.grid or self.data.grids[0]


class CompareSections(EvaluateSections):
    """The sections of an experiment that comparison reads, and no others."""

    comparison: ComparisonConfig
    """what it is compared with"""
