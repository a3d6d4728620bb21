"""Which configurations can stand under `model`: those of all families."""

from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field

from ocean_emulators.config.base import Config, parse
from ocean_emulators.models.base import FAMILIES, BaseModelConfig

if TYPE_CHECKING:
    ModelConfig = BaseModelConfig
else:
    ModelConfig = Annotated[Union[tuple(FAMILIES.values())], Field(discriminator="type")]  # noqa: UP007 (made of a list)


class _Section(Config):
    model: ModelConfig
    """the emulator"""


def parse_model(tree: Any, source: str) -> BaseModelConfig:
    """The model's configuration from plain types, as it stands in checkpoints.

    Raises
    ------
    UserError
        Naming `source`, the key, what was found, and what would be right.
    """
    return parse(_Section, {"model": tree}, source).model
