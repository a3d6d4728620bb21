"""Which files of the project a module reaches by imports: read off the sources, nothing is run."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "ocean_emulators"
PACKAGES = (PACKAGE, "launchers")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
FILES = {module_name(path): path for path in SOURCES}


@cache
def imported(module: str) -> frozenset[str]:
    """The project's modules that a module needs: those that it names, wherever it does, and those of its registries."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        for name in _names(node):
            if name in FILES:
                found.add(name)
            elif name.rpartition(".")[0] in FILES:
                found.add(name.rpartition(".")[0])
        folder = _registry_folder(node)
        if folder:
            found |= {name for name in FILES if name.rpartition(".")[0] == folder}
    return frozenset(found - {module})


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _registry_folder(node: ast.AST) -> str | None:
    """The folder whose modules a `Registry(kind, folder)` imports when it is looked into."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Registry"
        and len(node.args) > 1
    ):
        assert isinstance(node.args[1], ast.Constant), "a registry's folder is written out"
        return str(node.args[1].value)
    return None


def parents(module: str) -> Iterator[str]:
    """The packages that are imported with a module."""
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def reached(module: str) -> set[Path]:
    """All files that a module runs when it is imported, its own among them."""
    seen: set[str] = set()
    todo = {module}
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo |= {*imported(name), *parents(name)}
    return {FILES[name] for name in seen if name in FILES}


def cover(files: set[Path]) -> list[str]:
    """The shortest list of folders, of which all sources are among the files, and of files that stand for them."""
    shown: list[str] = []

    def visit(folder: Path) -> None:
        inside = {path for path in SOURCES if folder in path.parents}
        if inside <= files:
            shown.append(folder.relative_to(ROOT).as_posix())
            return
        shown.extend(path.relative_to(ROOT).as_posix() for path in sorted(inside & files) if path.parent == folder)
        for child in sorted(
            path for path in folder.iterdir() if path.is_dir() and any(path in f.parents for f in files)
        ):
            visit(child)

    visit(ROOT / PACKAGE)
    return sorted(shown)
