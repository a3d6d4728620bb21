"""The base of every configuration class, and how a tree read from a file becomes one."""

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ocean_emulators.config.schema import section_class
from ocean_emulators.errors import UserError, holds_keys


class Config(BaseModel):
    """Frozen and of strict types; unknown keys are refused; a string below a field is its description (unit and meaning).

    Bounds of numbers are said by the types of `bounds.py`.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, content: Any) -> Any:
        # Types are strict: true is no 1, "2" no 2, 1.5 no 1. But files know lists alone, and a Config nothing mutable.
        return {key: _frozen(value) for key, value in content.items()} if isinstance(content, dict) else content

    def dump(self) -> dict[str, Any]:
        """Plain types only, as they stand in a YAML or JSON file."""
        return self.model_dump(mode="json")

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some fields changed."""
        return type(self).model_validate({**self.dump(), **changes})


ConfigT = TypeVar("ConfigT", bound=Config)
MOST_FAULTS = 20
"""How many faults one message tells."""


def parse(cls: type[ConfigT], tree: Any, source: str) -> ConfigT:
    """Build `cls` from a tree of plain types.

    Raises
    ------
    UserError
        With one line per fault: where it is, what was found, what would be right.
    """
    if not isinstance(tree, dict):
        raise UserError(f"{source}: expected keys and values, found {shown(tree)}")
    for where, value in _leaves(tree):
        if holds_keys(value):
            raise UserError(
                f"{source}: {where}: found {value!r}: what stands before @ or behind ? in a URL may be a key, and others read "
                "this file; keys come from the environment, AWS's usual files or ~/.netrc"
            )
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        lines = [*dict.fromkeys(f"{source}: {_describe(cls, tree, fault)}" for fault in _faults(error))]
        more = [f"and {len(lines) - MOST_FAULTS} more"] if len(lines) > MOST_FAULTS else []
        raise UserError("\n".join(lines[:MOST_FAULTS] + more)) from None


def _leaves(tree: Any, where: str = "") -> Iterable[tuple[str, Any]]:
    """Every value of a tree of plain types that is no tree itself, and its keys."""
    if not isinstance(tree, dict | list):
        yield where, tree
        return
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from _leaves(value, f"{where}.{key}" if where else str(key))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint towards the nearest of the known names, or a list of them."""
    known = sorted(known)
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"known are: {', '.join(known)}"


def shown(value: Any) -> str:
    """A value as a message shows it: as it stands in a file, and not longer than a line."""
    return "nothing" if value is None else _SHORT.repr(_thawed(value))


_SHORT = reprlib.Repr()
_SHORT.maxlist, _SHORT.maxdict, _SHORT.maxlevel, _SHORT.maxstring = 8, 8, 3, 80

_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "keys and values",
    "float_type": "a number",
    "int_type": "an integer (whole, without a point)",
    "model_attributes_type": "keys and values",
    "model_type": "keys and values",
    "string_type": "text (in quotes, where it looks like something else)",
    "tuple_type": "a list",
}
"""What would be right, by pydantic's type of error."""


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _thawed(value: Any) -> Any:
    return [*map(_thawed, value)] if isinstance(value, tuple | list) else value


def _faults(error: ValidationError) -> list[Any]:
    """What pydantic found; a list with members that are wrong is not said to be too short as well."""
    faults: list[Any] = error.errors()
    places = [fault["loc"] for fault in faults]

    def is_told(fault: Any) -> bool:
        n = len(fault["loc"])
        return fault["type"] == "too_short" and any(len(p) > n and p[:n] == fault["loc"] for p in places)

    return [fault for fault in faults if not is_told(fault)]


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
    if fault["type"] == "value_error":
        return f"{where}: {message}"
    found, expected = shown(fault["input"]), _EXPECTED.get(fault["type"])
    return f"{where}: found {found}: {f'expected {expected}' if expected else message[0].lower() + message[1:]}"


def _describe_tag(where: str, fault: Any) -> str:
    """Of several kinds of component, one was named that does not exist, or none."""
    context = fault["ctx"]
    key = f"{where}.{context['discriminator'].strip(chr(39))}"
    if "tag" not in context:
        return f"{key}: missing"
    kinds = context["expected_tags"].replace("'", "")
    return f"{key}: found {shown(fault['input']['type'])}: expected one of: {kinds}"


def _is_key(known: set[Any], part: Any) -> bool:
    """Pydantic puts the names of union members between or behind the keys; only keys say anything to a reader."""
    return isinstance(part, int) or part in known


def _keys(tree: Any) -> set[Any]:
    if isinstance(tree, dict):
        return set(tree).union(*(_keys(value) for value in tree.values()))
    if isinstance(tree, list):
        return set().union(*(_keys(value) for value in tree))
    return set()


def _fields_at(cls: type[BaseModel], path: list[Any], tree: Any) -> Iterable[str]:
    for part in path:
        tree = tree[part] if isinstance(tree, dict | list) else None
        if not isinstance(part, int):
            cls = section_class(cls, part, tree) or cls
    return cls.model_fields
