"""The launch configuration: chosen outside `params.yaml`, because it changes no result."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ocean_emulators.config.base import Config, parse
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.parallel import Resources
from ocean_emulators.runtime import Runtime

VARIABLE = "OCEAN_EMULATORS_LAUNCH"
DEFAULT = Path("configs/launch/inline.yaml")


class LaunchConfig(Config):
    where: Literal["inline", "local"] = "inline"
    """inline: in this process; local: training by several processes on this machine, each with a share of every batch"""
    processes: int = Field(1, ge=1, le=1024)
    """how many train together, with where: local; on GPUs, one for each. The result is the same to rounding"""
    runtime: Runtime = Runtime()
    """how to use the machine"""
    prepare: Resources = Resources()
    """what preparing data and taking their statistics may use"""

    @model_validator(mode="after")
    def _processes_are_used(self) -> "LaunchConfig":
        if self.processes > 1 and self.where == "inline":
            raise ValueError(f"processes: found {self.processes}, but inline is one process; give where: local")
        return self


def load_launch_config() -> LaunchConfig:
    """The file that the environment variable OCEAN_EMULATORS_LAUNCH names, else `configs/launch/inline.yaml`, if it is there.

    Raises
    ------
    UserError
        If a file that is named is missing, or one is not valid.
    """
    named = os.environ.get(VARIABLE)
    if named is None and not DEFAULT.is_file():
        return LaunchConfig()
    path = Path(named or DEFAULT)
    return parse(LaunchConfig, load_yaml(path), str(path))
