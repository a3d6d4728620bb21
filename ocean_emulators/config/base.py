"""The base of every configuration class, and how a tree read from a file becomes one."""

import difflib
import hashlib
import json
import types
from collections.abc import Iterable
from typing import Annotated, Any, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from ocean_emulators.errors import UserError, holds_keys


class Config(BaseModel):
    """Frozen; unknown keys are refused; a string below a field is its description (unit and meaning)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    def dump(self) -> dict[str, Any]:
        """Plain types only, as they stand in a YAML or JSON file."""
        return self.model_dump(mode="json")

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some fields changed."""
        return type(self).model_validate({**self.dump(), **changes})


ConfigT = TypeVar("ConfigT", bound=Config)


def parse(cls: type[ConfigT], tree: Any, source: str) -> ConfigT:
    """Build `cls` from a tree of plain types.

    Raises
    ------
    UserError
        With one line per fault: where it is, what was found, what would be right.
    """
    if not isinstance(tree, dict):
        raise UserError(f"{source}: expected keys and values, found {type(tree).__name__}")
    for where, value in _leaves(tree):
        if holds_keys(value):
            raise UserError(
                f"{source}: {where}: found {value!r}: what stands before @ or behind ? in a URL may be a key, and others read "
                "this file; keys come from the environment, AWS's usual files or ~/.netrc"
            )
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        lines = [f"{source}: {_describe(cls, tree, fault)}" for fault in error.errors()]
        raise UserError("\n".join(dict.fromkeys(lines))) from None


def _leaves(tree: Any, where: str = "") -> Iterable[tuple[str, Any]]:
    """Every value of a tree of plain types that is no tree itself, and its keys."""
    if not isinstance(tree, dict | list):
        yield where, tree
        return
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from _leaves(value, f"{where}.{key}" if where else str(key))


def digest(*parts: Any) -> str:
    """SHA-256 of plain data, the same wherever and whenever it is taken."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint towards the nearest of the known names, or a list of them."""
    known = sorted(known)
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"known are: {', '.join(known)}"


def _describe(cls: type[Config], tree: Any, fault: Any) -> str:
    known = _keys(tree) | ({fault["loc"][-1]} if fault["type"] == "missing" else set())
    path = [part for part in fault["loc"] if _is_key(known, part)]
    where = ".".join(str(part) for part in path) or "(top level)"
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key; {did_you_mean(str(path[-1]), _fields_at(cls, path[:-1], tree))}"
    if fault["type"] == "missing":
        return f"{where}: missing"
    if fault["type"].startswith("union_tag"):
        return _describe_tag(where, fault)
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] in ("value_error", "model_type"):
        return f"{where}: {message}"
    return f"{where}: found {fault['input']!r}: {message[0].lower() + message[1:]}"


def _describe_tag(where: str, fault: Any) -> str:
    """Of several kinds of component, one was named that does not exist, or none."""
    context = fault["ctx"]
    key = f"{where}.{context['discriminator'].strip(chr(39))}"
    if "tag" not in context:
        return f"{key}: missing"
    kinds = context["expected_tags"].replace("'", "")
    return f"{key}: found {context['tag']!r}: expected one of: {kinds}"


def _is_key(known: set[Any], part: Any) -> bool:
    """Pydantic puts the names of union members between or behind the keys; only keys say anything to a reader."""
    return isinstance(part, int) or part in known


def _keys(tree: Any) -> set[Any]:
    if isinstance(tree, dict):
        return set(tree).union(*(_keys(value) for value in tree.values()))
    if isinstance(tree, list):
        return set().union(*(_keys(value) for value in tree))
    return set()


def _fields_at(cls: type[Config], path: list[Any], tree: Any) -> Iterable[str]:
    for part in path:
        tree = tree[part] if isinstance(tree, dict | list) else None
        if isinstance(part, int):
            continue
        classes = list(_config_classes(cls.model_fields[part].annotation))
        chosen = [c for c in classes if _type_tag(c) == (tree or {}).get("type")] if isinstance(tree, dict) else []
        cls = (chosen or classes)[0]
    return cls.model_fields


def _type_tag(cls: type[Config]) -> Any:
    return cls.model_fields["type"].default if "type" in cls.model_fields else None


def _config_classes(annotation: Any) -> Iterable[type[Config]]:
    if isinstance(annotation, type) and not get_origin(annotation) and issubclass(annotation, Config):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, Annotated, list, tuple):
        for argument in get_args(annotation):
            yield from _config_classes(argument)
