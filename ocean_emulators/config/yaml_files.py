"""YAML files that include one another."""

from pathlib import Path
from typing import Any

import yaml

from ocean_emulators.errors import UserError


def load_yaml(path: Path | str) -> Any:
    """Read a YAML file; `!include other.yaml` (relative to the including file) stands for that file's content.

    Dates stay the text that was written: model calendars have days that the civil one lacks.

    Raises
    ------
    UserError
        For a missing file, bad syntax, a key given twice, or files that include each other in a circle.
    """
    return _load(Path(path), ())


def parse_scalar(text: str) -> Any:
    """The value of one YAML expression, as in `key=VALUE` on a command line."""
    return yaml.load(text, _Loader)


def _load(path: Path, parents: tuple[Path, ...]) -> Any:
    chain = (*parents, path)
    if path.resolve() in [parent.resolve() for parent in parents]:
        raise UserError(f"{path}: includes itself: {' -> '.join(map(str, chain))}")
    if not path.is_file():
        included = f", included by {parents[-1]}" if parents else ""
        raise UserError(f"{path}: no such file{included}")
    loader = _Loader(path.read_text())
    loader.chain = chain
    try:
        return loader.get_single_data()
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {_one_line(error)}") from None
    finally:
        loader.dispose()


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else problem


class _Loader(yaml.SafeLoader):
    chain: tuple[Path, ...] = ()

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # Looked at before merge keys (`<<`) are flattened: what they bring in may be overridden, a written key may not.
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _include(loader: _Loader, node: yaml.ScalarNode) -> Any:
    name = str(str(loader.construct_scalar(node)))
    base = loader.chain[-1].parent if loader.chain else Path()
    return _load(base / name, loader.chain)


def _as_written(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor("!include", _include)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _as_written)
