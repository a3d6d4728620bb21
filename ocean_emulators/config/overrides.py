"""Changes to a configuration tree, given as `a.b=value`."""

import copy
from typing import Any

from pydantic import BaseModel

from ocean_emulators.config.base import did_you_mean
from ocean_emulators.config.schema import default_of, section_class
from ocean_emulators.config.yaml_files import parse_scalar
from ocean_emulators.errors import UserError


def apply_overrides(cls: type[BaseModel], tree: Any, overrides: list[str]) -> Any:
    """A copy of `tree`, which is to become a `cls`, with each `a.b=value` set.

    Values are YAML; list members are named by their index. What the tree leaves out is there with its defaults. As with
    `dvc exp run -S`, a mapping changes those keys of a mapping that it names, but a section of another `type` replaces it;
    and a key that `-S` would have to add may begin with `+`.

    Raises
    ------
    UserError
        For a key on the way that does not exist, or a value that is not YAML. Whether the last key may stand there is for
        the validation to say.
    """
    tree = {} if tree is None else copy.deepcopy(tree)
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path:
            raise UserError(f"override {override!r}: expected KEY=VALUE, such as train.epochs=5")
        try:
            _set(cls, tree, path.lstrip("+").split("."), parse_scalar(text))
        except UserError as error:
            raise UserError(f"override {override!r}: {error}") from None
    return tree


def _set(cls: type[BaseModel], tree: Any, path: list[str], value: Any) -> None:
    node: Any = tree
    section: type[BaseModel] | None = cls
    for depth, key in enumerate(path[:-1]):
        where, following = ".".join(path[:depth]) or "the top level", path[depth + 1]
        if isinstance(node, dict) and node.get(key) is None:
            node[key] = _left_out(section, node, key, following, where)
        node = node[_index(node, key, where)]
        section = section_class(section, key, node)
    last = _index(node, path[-1], ".".join(path[:-1]) or "the top level", new=True)
    old = node.get(last) if isinstance(node, dict) else node[last]
    node[last] = _merged(old, value)


def _left_out(cls: type[BaseModel] | None, node: dict[str, Any], key: str, following: str, where: str) -> Any:
    """What stands at a key that the tree leaves out or sets to null."""
    known = set(node) | set(cls.model_fields if cls else ())
    if key not in known:
        raise UserError(f"no key {key!r} at {where}; {did_you_mean(key, known)}")
    # Setting its type starts a component from nothing: the defaults are those of another type.
    return {} if cls is None or following == "type" else default_of(cls, key)


def _merged(old: Any, new: Any) -> Any:
    if not (isinstance(old, dict) and isinstance(new, dict)) or new.get("type", old.get("type")) != old.get("type"):
        return new
    return old | {key: _merged(old.get(key), value) for key, value in new.items()}


def _index(node: Any, key: str, where: str, new: bool = False) -> str | int:
    """How a member is named; `new` ones may be added to a mapping."""
    if isinstance(node, dict):
        if key not in node and not new:
            raise UserError(f"no key {key!r} at {where}; {did_you_mean(key, node)}")
        return key
    if isinstance(node, list):
        if key not in map(str, range(len(node))):
            raise UserError(f"{where} is a list of {len(node)}; name a member 0 to {len(node) - 1}")
        return int(key)
    raise UserError(f"{where} is a single value and has no key {key!r}")
