"""YAML files that include one another, read by the rules of YAML 1.2's core schema.

What PyYAML's own loader makes of `yes`, `1e-4`, `0777`, `12:30:00` or `2001-02-03` (false friends of YAML 1.1) is not what
people mean, and not what DVC's reader makes of them. Here `yes` is text, `1e-4` a number, `0777` is 777, times and dates
are text. Values are text, numbers, booleans, null, lists and mappings with text for keys; nothing else can be written.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ocean_emulators.config.yaml_rules import DEEPEST, MAP, MERGE, SEQUENCE, NodeLoader, fault, key_text, scalar_value
from ocean_emulators.errors import UserError

LARGEST_FILE = 200_000
"""bytes"""
MOST_VALUES = 20_000
"""values that a file may hold with all that it includes, where aliases count as what they stand for"""
_TEXT_OF_A_VALUE = 100
"""characters of a text that count as one value more"""


def load_yaml(path: Path | str) -> Any:
    """Read a YAML file; `!include other.yaml` (relative to the including file) stands for that file's content.

    Dates stay the text that was written: model calendars have days that the civil one lacks. Aliases (`*name`) and merge
    keys (`<<`) stand for copies. It takes seconds at most, whatever the file holds.

    Raises
    ------
    UserError
        For a file that is missing or can't be read, for bad syntax (with the place), a key given twice, files that include
        each other in a circle, and for what is too large to be a configuration.
    """
    return _Reading().file(Path(path))


def parse_scalar(text: str) -> Any:
    """The value of one YAML expression, as in `key=VALUE` on a command line.

    Raises
    ------
    UserError
        If it is not valid YAML.
    """
    return _Reading().text(text)


@dataclass
class _Reading:
    """Of a file and of what it includes: each file is read once, and values are counted."""

    values: int = 0
    nodes: dict[str, yaml.Node | None] = field(default_factory=dict)

    def file(self, path: Path, parents: tuple[Path, ...] = (), around: tuple[int, ...] = ()) -> Any:
        real = os.path.realpath(path)
        chain = (*parents, path)
        if real in map(os.path.realpath, parents):
            raise UserError(f"{path}: includes itself: {' -> '.join(map(str, chain))}")
        if real not in self.nodes:
            self.nodes[real] = _compose(_read(path, f", included by {parents[-1]}" if parents else ""), f"{path}: ")
        return self._content(self.nodes[real], f"{path}: ", chain, around)

    def text(self, text: str) -> Any:
        return self._content(_compose(text, ""), "", (), ())

    def _content(self, node: yaml.Node | None, where: str, chain: tuple[Path, ...], around: tuple[int, ...]) -> Any:
        try:
            return None if node is None else self._value(node, chain, around)
        except yaml.MarkedYAMLError as error:
            raise _refusal(error, where) from None

    def _value(self, node: yaml.Node, chain: tuple[Path, ...], around: tuple[int, ...]) -> Any:
        """`chain` are the files that include one another, `around` the nodes that the node stands in."""
        self.values += 1 + (len(node.value) // _TEXT_OF_A_VALUE if isinstance(node, yaml.ScalarNode) else 0)
        if self.values > MOST_VALUES:
            raise fault(node, f"more than {MOST_VALUES} values, where aliases count as what they stand for")
        if id(node) in around:
            raise fault(node, "an alias inside of what it stands for")
        if len(around) == DEEPEST:
            raise fault(node, f"nested more than {DEEPEST} levels deep")
        around = (*around, id(node))
        if node.tag == "!include":
            return self._included(node, chain, around)
        if isinstance(node, yaml.MappingNode) and node.tag == MAP:
            return self._mapping(node, chain, around)
        if isinstance(node, yaml.SequenceNode) and node.tag == SEQUENCE:
            return [self._value(item, chain, around) for item in node.value]
        return scalar_value(node)

    def _mapping(self, node: yaml.MappingNode, chain: tuple[Path, ...], around: tuple[int, ...]) -> dict[str, Any]:
        """What merge keys bring in may be overridden; a written key may not."""
        written: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == MERGE:
                merged = self._merged(value_node, chain, around) | merged
                continue
            key = key_text(key_node)
            if key in written:
                raise fault(key_node, f"the key {key!r} is given twice")
            written[key] = self._value(value_node, chain, around)
        return merged | written

    def _merged(self, node: yaml.Node, chain: tuple[Path, ...], around: tuple[int, ...]) -> dict[str, Any]:
        """What stands behind a `<<`: a mapping, or a list of them, of which earlier ones override later ones."""
        merged: dict[str, Any] = {}
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            found = self._value(source, chain, around)
            if not isinstance(found, dict):
                raise fault(source, "expected a mapping to merge")
            merged = found | merged
        return merged

    def _included(self, node: yaml.Node, chain: tuple[Path, ...], around: tuple[int, ...]) -> Any:
        if not isinstance(node, yaml.ScalarNode) or not node.value or "\0" in node.value:
            raise fault(node, "expected the name of a file to include")
        return self.file((chain[-1].parent if chain else Path()) / node.value, chain, around)


def _read(path: Path, included: str) -> str:
    """The text of a file; `included` says by which one."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{included}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder{included}; expected a YAML file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read{included}: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > LARGEST_FILE:
        raise UserError(f"{path}: not valid YAML: more than {LARGEST_FILE} bytes, which no configuration has{included}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _place(content[: error.start].decode("latin-1"))
        found = f"byte 0x{content[error.start]:02x}"
        raise UserError(f"{path}: not valid YAML: not UTF-8: {found} {place}; save it as UTF-8") from None


def _compose(text: str, where: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, NodeLoader)
    except yaml.reader.ReaderError as error:
        character = f"character #x{ord(text[error.position]):04x} may not stand in it"
        raise UserError(f"{where}not valid YAML: {character} {_place(text[: error.position])}") from None
    except yaml.YAMLError as error:
        raise _refusal(error, where) from None


def _refusal(error: yaml.YAMLError, where: str) -> UserError:
    mark = getattr(error, "problem_mark", None)
    problem = re.sub(r"\s+", " ", getattr(error, "problem", None) or str(error))
    return UserError(
        f"{where}not valid YAML: {problem}" + (f" (line {mark.line + 1}, column {mark.column + 1})" if mark else "")
    )


def _place(before: str) -> str:
    """Where in a file something stands that has this before it."""
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return f"(line {line}, column {column})"
