"""Which text of a YAML file is a number, a boolean, null or text: YAML 1.2's core schema, https://yaml.org/spec/1.2.2/#103"""

import re
from collections.abc import Callable
from typing import Any

import yaml

DEEPEST = 50
"""levels of nesting"""
LONGEST_NUMBER = 1000
"""characters"""

MAP, SEQUENCE, MERGE = (f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "merge"))

_RULES = {
    "null": re.compile(r"null|Null|NULL|~|"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    "float": re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
    "merge": re.compile(r"<<"),
}
_VALUES: dict[str, Callable[[str], Any]] = {
    "null": lambda _: None,
    "bool": lambda text: text.lower() == "true",
    "int": lambda text: int(text, 0 if text[:2] in ("0o", "0x") else 10),
    "float": lambda text: float(re.sub(r"\.(?=inf|nan)", "", text.lower())),
    "str": str,
}


class NodeLoader(yaml.SafeLoader):
    """Composes nodes with the tags of the core schema and of merge keys (`<<`); refuses what is nested too deep."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        """The tag of a node that names none."""
        if kind is yaml.ScalarNode:
            fitting = (name for name, rule in _RULES.items() if implicit[0] and rule.fullmatch(value))
            return f"tag:yaml.org,2002:{next(fitting, 'str')}"
        return MAP if kind is yaml.MappingNode else SEQUENCE

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As PyYAML's, which ends in a RecursionError where this refuses."""
        if self.depth == DEEPEST:
            problem = f"nested more than {DEEPEST} levels deep"
            raise yaml.composer.ComposerError(None, None, problem, self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def scalar_value(node: yaml.Node) -> Any:
    """The value of a node that is no list and no mapping.

    Raises
    ------
    yaml.MarkedYAMLError
        For a tag that is not the core schema's, or that does not fit.
    """
    name, text = node.tag.removeprefix("tag:yaml.org,2002:"), node.value
    if not isinstance(node, yaml.ScalarNode) or name not in _VALUES:
        raise fault(node, f"unknown tag {node.tag!r}")
    if name in ("int", "float") and len(text) > LONGEST_NUMBER:
        raise fault(node, f"a number of {len(text)} characters")
    if name in _RULES and not _RULES[name].fullmatch(text):
        raise fault(node, f"found {text!r}, which is no {name}")
    return _VALUES[name](_characters(node))


def key_text(node: yaml.Node) -> str:
    """A key, which is text whatever it looks like.

    Raises
    ------
    yaml.MarkedYAMLError
        For a list or a mapping.
    """
    if not isinstance(node, yaml.ScalarNode):
        raise fault(node, "expected text as a key, found a list or a mapping")
    return _characters(node)


def fault(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    """What is wrong at a node."""
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _characters(node: yaml.ScalarNode) -> str:
    text: str = node.value
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise fault(node, "half of a surrogate pair, which is no character")
    return text
