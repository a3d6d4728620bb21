"""Open tables of parts that have a name: adding one touches the file that it stands in, and no other.

A registry may have a folder. Each module in it registers its parts when it is imported, and all are imported when the
registry is first looked into; so a file that is put there is found.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from ocean_emulators.config.base import did_you_mean
from ocean_emulators.errors import UserError

Part = TypeVar("Part")


class Registry(Mapping[str, Part], Generic[Part]):
    """Parts by name, in the order in which they were registered."""

    def __init__(self, kind: str, folder: str | None = None) -> None:
        """`kind` is what messages call a part; `folder` is the package whose modules register some."""
        self.kind, self.folder = kind, folder
        self._parts: dict[str, Part] = {}
        self._searched = folder is None

    def register(self, name: str) -> Callable[[Part], Part]:
        """Decorator that gives a part its name, which must be free."""

        def add(part: Part) -> Part:
            assert name not in self._parts, f"{self.kind} {name!r} is registered twice"
            self._parts[name] = part
            return part

        return add

    def remove(self, name: str) -> None:
        """Take a part out again."""
        del self._parts[name]

    def get_or_refuse(self, name: str, where: str) -> Part:
        """The part of that name.

        Raises
        ------
        UserError
            If there is none; `where` begins the message.
        """
        if name not in self:
            raise UserError(f"{where}: found {name!r}: no such {self.kind}; {did_you_mean(name, self)}")
        return self[name]

    def __getitem__(self, name: str) -> Part:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, Part]:
        if not self._searched and self.folder is not None:
            self._searched = True  # first: the modules may look into it themselves
            for module in pkgutil.iter_modules(importlib.import_module(self.folder).__path__):
                importlib.import_module(f"{self.folder}.{module.name}")
        return self._parts
