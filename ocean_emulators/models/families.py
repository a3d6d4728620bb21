"""The families of models: which configurations can stand under `model`."""

from typing import Annotated, Any

from pydantic import Field

from ocean_emulators.config.base import Config, parse
from ocean_emulators.models.fomo.model import FomoConfig
from ocean_emulators.models.samudra import SamudraConfig

ModelConfig = Annotated[SamudraConfig | FomoConfig, Field(discriminator="type")]


class _Section(Config):
    model: ModelConfig
    """the emulator"""


def parse_model(tree: Any, source: str) -> SamudraConfig | FomoConfig:
    """The model's configuration from plain types, as it stands in checkpoints.

    Raises
    ------
    UserError
        Naming `source`, the key, what was found, and what would be right.
    """
    return parse(_Section, {"model": tree}, source).model
