"""What holds the code together: imports point one way, and DVC knows the code that a stage runs."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from ocean_emulators.datasets.config import DataConfig

ROOT = Path(__file__).parents[1]
PACKAGE = "ocean_emulators"

# A module may import from its own line and from those above it.
LAYERS = [
    ["errors"],
    ["config"],
    ["runtime", "checkpoints", "ocean"],
    ["datasets"],
    ["models"],
    ["losses"],
    ["stepper", "baselines"],
    ["aggregator"],
    ["tracking"],
    ["train", "eval", "comparison"],
    ["experiment"],
    ["stages", "describe", "synthetic", "cli", "cli_data", "cli_import"],
    ["launchers"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# Code that changes no result: reading params (which DVC compares itself), messages, places, records.
NO_RESULT = re.compile(
    r"ocean_emulators/(__init__|errors|experiment|runtime|stages/(__init__|paths)|(aggregator|models)/__init__|tracking/.*)\.py"
)


def sources() -> list[Path]:
    return [path for name in (PACKAGE, "launchers") for path in sorted((ROOT / name).rglob("*.py"))]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sources()}


def part_of(module: str) -> str:
    first, _, rest = module.partition(".")
    return first if first == "launchers" else rest.split(".")[0]


def imported(path: Path) -> set[str]:
    """The project's modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        for name in names:
            if name in FILES:
                found.add(name)
            elif name.rpartition(".")[0] in FILES and name.startswith((PACKAGE, "launchers")):
                found.add(name.rpartition(".")[0])
    return found - {PACKAGE}


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_point_one_way(path: Path) -> None:
    own = part_of(module_name(path))
    if not own:
        return
    for module in imported(path):
        assert RANK[part_of(module)] <= RANK[own], f"{module_name(path)} imports {module}"


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_no_project_import_inside_a_function(path: Path) -> None:
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom):
                    assert not (node.module or "").startswith((PACKAGE, "launchers"))


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_trackers_are_imported_by_tracking_alone(path: Path) -> None:
    text = path.read_text()
    if "tracking" not in path.parts:
        assert not re.search(r"^\s*(import|from) (mlflow|wandb)", text, re.M)


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_constants_stand_in_one_place(path: Path) -> None:
    if path.name != "constants.py":
        assert not re.search(r"\b(6\.37[0-9]*e6|1035|1025|3992|3850|7\.2921e-5)\b", path.read_text())


@pytest.mark.parametrize("stage", ["prepare", "stats", "train", "evaluate", "compare"])
def test_dvc_knows_the_code_of_a_stage(stage: str) -> None:
    """All modules that a stage reaches by imports, and that can change its result, are among its dependencies."""
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    reached, todo = set(), {f"{PACKAGE}.stages.{stage}"}
    while todo:
        module = todo.pop()
        file = FILES[module].relative_to(ROOT).as_posix()
        if module in reached or NO_RESULT.fullmatch(file):
            continue
        reached.add(module)
        assert any(file == dep or file.startswith(f"{dep}/") for dep in deps), (
            f"{stage} runs {file}, not among its deps"
        )
        todo |= imported(FILES[module])


def test_params_and_dvc_yaml_name_the_same_things() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for stage, content in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        for key in content["params"]:
            node = params
            for part in key.split("."):
                assert part in node, f"{stage}: {key}"
                node = node[part]


def test_preparation_depends_on_all_of_the_data_section_but_statistics() -> None:
    params = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["prepare"]["params"]
    assert {key.removeprefix("data.") for key in params} == set(DataConfig.model_fields) - {"statistics"}


def test_functions_fit_a_screen() -> None:
    for path in sources():
        assert len(path.read_text().splitlines()) <= 600, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path.name}: {node.name}"
