"""Which settings are read while something runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ocean_emulators.config.base import Config


def _paths(config: Config, prefix: str = "") -> Iterator[tuple[int, str]]:
    yield id(config), prefix
    for name in type(config).model_fields:
        value = vars(config)[name]
        if isinstance(value, Config):
            yield from _paths(value, f"{prefix}{name}.")


@contextmanager
def recorded_reads(config: Config) -> Iterator[set[str]]:
    """The dotted keys of the values that are read from a configuration in the block; what is dumped is read as a whole."""
    paths, read = dict(_paths(config)), set[str]()

    def get(self: Config, name: str) -> Any:
        value = object.__getattribute__(self, name)
        prefix = paths.get(id(self))
        if prefix is not None:
            if name in ("dump", "model_dump"):
                read.add(prefix.rstrip(".") or "everything")
            elif name in type(self).model_fields and not isinstance(value, Config):
                read.add(f"{prefix}{name}")
        return value

    Config.__getattribute__ = get  # type: ignore[method-assign, assignment]
    try:
        yield read
    finally:
        del Config.__getattribute__
