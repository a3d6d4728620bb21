"""Changes to a configuration tree, given as `a.b=value`."""

import copy
from typing import Any

import yaml

from ocean_emulators.config.base import did_you_mean
from ocean_emulators.config.yaml_files import parse_scalar
from ocean_emulators.errors import UserError


def apply_overrides(tree: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """A copy of `tree` with each `a.b=value` set; values are YAML, list members are named by their index.

    Raises
    ------
    UserError
        For a key on the way that does not exist, or a value that is not YAML. Whether the last key may stand
        there is for the validation to say, which knows the fields with defaults.
    """
    tree = copy.deepcopy(tree)
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path:
            raise UserError(f"override {override!r}: expected KEY=VALUE, such as train.epochs=5")
        try:
            value = parse_scalar(text)
        except yaml.YAMLError:
            raise UserError(f"override {override!r}: the value is not valid YAML") from None
        _set(tree, path, value, override)
    return tree


def _set(tree: Any, path: str, value: Any, override: str) -> None:
    *parents, last = path.split(".")
    node = tree
    for depth, key in enumerate(parents):
        where = ".".join(parents[:depth]) or "the top level"
        node = node[_index(node, key, where, override)]
    where = ".".join(parents) or "the top level"
    if isinstance(node, dict):
        node[last] = value
    else:
        node[_index(node, last, where, override)] = value


def _index(node: Any, key: str, where: str, override: str) -> str | int:
    if isinstance(node, dict):
        if key not in node:
            raise UserError(f"override {override!r}: no key {key!r} at {where}; {did_you_mean(key, node)}")
        return key
    if isinstance(node, list):
        if not key.isdigit() or int(key) >= len(node):
            raise UserError(
                f"override {override!r}: {where} is a list of {len(node)}; name a member 0 to {len(node) - 1}"
            )
        return int(key)
    raise UserError(f"override {override!r}: {where} is a single value and has no key {key!r}")
