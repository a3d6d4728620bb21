"""What is learnt from and predicted: source, fields, levels, resolutions, periods, statistics."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ocean_emulators.config.base import Config, did_you_mean
from ocean_emulators.config.bounds import Count
from ocean_emulators.ocean import calendar, fields
from ocean_emulators.ocean.fields import Channel
from ocean_emulators.ocean.grid import grid_name


class Period(Config):
    start: str
    """first day, YYYY-MM-DD in the calendar of the source"""
    end: str
    """last day, YYYY-MM-DD, included"""

    @field_validator("start", "end")
    @classmethod
    def _is_date(cls, value: str) -> str:
        return calendar.check_date(value)

    @model_validator(mode="after")
    def _ordered(self) -> "Period":
        if self.start > self.end:
            raise ValueError(f"ends ({self.end}) before it starts ({self.start})")
        return self


class Periods(Config):
    train: Period
    """weights, statistics and climatology are made from this period alone"""
    validation: Period
    """choices (best epoch, hyper-parameters) are made on this period"""
    test: Period
    """held out: read by evaluation and comparison only"""

    @model_validator(mode="after")
    def _disjoint(self) -> "Periods":
        named = list(self.named.items())
        for i, (first, a) in enumerate(named):
            for second, b in named[i + 1 :]:
                if a.start <= b.end and b.start <= a.end:
                    raise ValueError(
                        f"{first} ({a.start} to {a.end}) and {second} ({b.start} to {b.end}) overlap; "
                        "scores would be of data that was trained on. Let one end before the other starts"
                    )
        return self

    @property
    def named(self) -> dict[str, Period]:
        """Each by its name."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    @property
    def days(self) -> dict[str, str]:
        """The days that they begin and end on, by their keys in `params.yaml`."""
        ends = ((name, end) for name in self.named for end in Period.model_fields)
        return {f"data.periods.{name}.{end}": getattr(self.named[name], end) for name, end in ends}

    @property
    def span(self) -> Period:
        """From the first day of any period to the last of any."""
        periods = (self.train, self.validation, self.test)
        return Period(start=min(p.start for p in periods), end=max(p.end for p in periods))


class StatisticsConfig(Config):
    period: Literal["train", "all"] = "train"
    """times that means and standard deviations are taken over: the training period, or all times of all periods (as the
    published statistics are; validation and test are then not unseen); the climatology is of the training period always"""
    published_means: str | None = None
    """Zarr store with the mean of each field, which then replaces the computed one (OM4_means.zarr); null computes it.
    Its content is no dependency that DVC knows: after a change of it, `dvc repro --force stats`"""
    published_stds: str | None = None
    """the same for standard deviations (OM4_stds.zarr); means and standard deviations come from the same place"""

    @field_validator("published_means", "published_stds")
    @classmethod
    def _is_path(cls, value: str | None) -> str | None:
        if value is not None and "://" in value:
            raise ValueError(
                f"found {value!r}: expected a path; copy the store, which is small, beside the project's data"
            )
        return value

    @model_validator(mode="after")
    def _both_or_none(self) -> "StatisticsConfig":
        if (self.published_means is None) != (self.published_stds is None):
            raise ValueError("give both published_means and published_stds, or neither: a pair belongs together")
        return self


class DataConfig(Config):
    source: str
    """Zarr store of the ocean model's output, a path relative to the project's root: a folder, one .zip file, or a pointer
    file (.yaml) that names and pins a store elsewhere, such as on S3"""
    prognostic: tuple[str, ...] = Field(min_length=1)
    """fields to predict, by their names in the field table (CMIP); this is their order in the model's channels"""
    forcing: tuple[str, ...]
    """fields given to the model at every step, never predicted"""
    levels: tuple[Annotated[int, Field(ge=0, le=10_000)], ...] = Field(min_length=1)
    """depth levels to keep, counted from the surface (0)"""
    coarsen: tuple[Count, ...] = Field((1,), min_length=1)
    """factors by which the grid of the source is coarsened in both directions, by means over wet area; one prepared store
    each; 1 is the source's own grid. All are normalised by the statistics of the first; train.passes says which are trained
    on, evaluation.grid which is rolled out"""
    anomaly_period: Literal["train", "all"] = "train"
    """what the mean annual cycle behind hfds_anomalies is taken over, if the source lacks them: the training period,
    or all times of the source (as for the published weights, which so have seen the test period's forcing)"""
    storage: Literal["float32", "float16", "bfloat16"] = "float32"
    """how values are stored: as they are, or at half the size in units of each field's deviation from its mean, rounded to
    11 (float16) or 8 (bfloat16) binary digits"""
    periods: Periods
    """training, validation and test periods; they may not overlap"""
    statistics: StatisticsConfig = StatisticsConfig()
    """what fields are normalised by"""

    @field_validator("source")
    @classmethod
    def _is_path(cls, value: str) -> str:
        if "://" in value:
            raise ValueError(
                f"found {value!r}: a URL stands in a pointer file, which pins what is there (see data/sources/); name that"
            )
        return value

    @field_validator("prognostic", "forcing")
    @classmethod
    def _fields_exist(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for name in value:
            if name not in fields.FIELDS:
                raise ValueError(f"no field {name!r}; {did_you_mean(name, fields.FIELDS)}")
            role = fields.FIELDS[name].role
            if role != info.field_name:
                raise ValueError(f"{name!r} is a {role} field")
        if len(set(value)) < len(value):
            raise ValueError(f"a field is named twice: {', '.join(value)}")
        return value

    @field_validator("coarsen")
    @classmethod
    def _resolutions_differ(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"found {list(value)}: expected each factor once")
        return value

    @field_validator("levels")
    @classmethod
    def _levels_ascend(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(f"found {list(value)}: expected level numbers from the surface (0) down, each once")
        return value

    @property
    def grids(self) -> tuple[str, ...]:
        """Names of the prepared grids; all are normalised by the statistics of the first."""
        return tuple(map(grid_name, self.coarsen))

    @property
    def prognostic_channels(self) -> tuple[Channel, ...]:
        """One channel per predicted field and level."""
        return fields.channels(self.prognostic, self.levels)

    @property
    def forcing_channels(self) -> tuple[Channel, ...]:
        """One channel per forcing field."""
        return fields.channels(self.forcing, self.levels)


class DataSections(Config):
    """The section of an experiment that preparation and statistics read, and no others."""

    data: DataConfig
    """what is learned from and predicted"""
