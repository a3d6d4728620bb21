"""The launch configuration: chosen outside `params.yaml`, because it changes no result."""

import os
from pathlib import Path
from typing import Literal

from ocean_emulators.config.base import Config, parse
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.parallel import Resources
from ocean_emulators.runtime import Runtime

VARIABLE = "OCEAN_EMULATORS_LAUNCH"
DEFAULT = Path("configs/launch/inline.yaml")


class LaunchConfig(Config):
    where: Literal["inline"] = "inline"
    """inline: in this process"""
    runtime: Runtime = Runtime()
    """how to use the machine"""
    prepare: Resources = Resources()
    """what preparing data and taking their statistics may use"""


def load_launch_config() -> LaunchConfig:
    """The file that the environment variable OCEAN_EMULATORS_LAUNCH names, else `configs/launch/inline.yaml`.

    Raises
    ------
    UserError
        If the file is missing or not valid.
    """
    path = Path(os.environ.get(VARIABLE, DEFAULT))
    return parse(LaunchConfig, load_yaml(path), str(path))
