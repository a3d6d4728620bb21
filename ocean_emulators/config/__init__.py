"""The configuration system: YAML with `!include`, overrides, validation, rendering. Knows no component."""

from ocean_emulators.config.base import Config, parse
from ocean_emulators.config.overrides import apply_overrides
from ocean_emulators.config.render import render, write
from ocean_emulators.config.yaml_files import load_yaml

__all__ = ["Config", "apply_overrides", "load_yaml", "parse", "render", "write"]
