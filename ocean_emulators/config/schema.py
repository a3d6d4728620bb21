"""Looks up sections and defaults of a configuration in the fields of its classes."""

import types
from collections.abc import Iterable
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


def section_class(cls: type[BaseModel] | None, key: str | int, content: Any) -> type[BaseModel] | None:
    """The class that the content of a field of `cls` is to become, by its `type` where there are several; None for others."""
    if cls is None or key not in cls.model_fields or not isinstance(content, dict):
        return None
    classes = list(_classes(cls.model_fields[str(key)].annotation))
    if len(classes) > 1:
        classes = [
            c for c in classes if "type" in c.model_fields and c.model_fields["type"].default == content.get("type")
        ]
    return classes[0] if classes else None


def default_of(cls: type[BaseModel], key: str) -> Any:
    """What a field of `cls` is if nothing is given, as plain types; {} for null, and where there is no default."""
    value = cls.model_fields[key].get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return list(value) if isinstance(value, tuple) else value if isinstance(value, dict | int | float | str) else {}


def _classes(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and not get_origin(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, Annotated, list, tuple):
        for argument in get_args(annotation):
            yield from _classes(argument)
