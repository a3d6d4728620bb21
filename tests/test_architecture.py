"""What holds the code together: imports point one way, and DVC knows the code that a stage's result depends on."""

import ast
import graphlib
import re
from pathlib import Path

import pytest
import yaml

from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.workspace import Workspace
from tests.imports import FILES, PACKAGE, PACKAGES, ROOT, SOURCES, cover, imported, module_name, reached

STAGES = ["prepare", "stats", "train", "evaluate", "compare"]

# A part may import from those above it, and from itself.
LAYERS = {
    PACKAGE: """exports streams errors files programs config sealing registry ocean runtime parallel distributed tensors
        workspace lock datasets models cost losses stepper forecasting aggregator figures tracking train eval experiment
        outlook plan finding build jobs stages cli testing""",
    f"{PACKAGE}.config": "bounds schema base yaml_rules yaml_files overrides render",
    f"{PACKAGE}.ocean": "constants fields levels calendar grid regions diagnostics",
    f"{PACKAGE}.datasets": "config requirements source store statistics preparation loading prepared",
    f"{PACKAGE}.models": "layers base samudra fomo families released",
    f"{PACKAGE}.losses": "grid masked gradient spectral dynamic rollout config",
    f"{PACKAGE}.forecasting": "base emulator baselines",
    f"{PACKAGE}.aggregator": "statistics sums metrics accumulator losses reduced one_step maps train validate inference",
    f"{PACKAGE}.train": """schedules selection stopping ledger progress throughput profiling one_batch config rollout_steps
        rollout_validation validation averages optimisation checkpoint_store parts not_finite trainer checkpoints""",
    f"{PACKAGE}.eval": "config rollout writer snapshots tables report comparison",
}


def content() -> dict[str, dict[str, list[str]]]:
    stages: dict[str, dict[str, list[str]]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return stages


def part_of(module: str, package: str) -> str | None:
    """The part of a package that a module is in; None outside of it, and for the package itself."""
    rest = module.removeprefix(f"{package}.")
    return rest.split(".")[0] if module.startswith(f"{package}.") else None


@pytest.mark.parametrize("package", LAYERS)
def test_imports_point_one_way(package: str) -> None:
    order = LAYERS[package].split()
    parts = {part for module in FILES if (part := part_of(module, package))}
    assert set(order) == parts, "each part has its place in the order"
    for module in FILES:
        own = part_of(module, package)
        for other in imported(module) if own else ():
            of = part_of(other, package)
            if of is not None and "Registry(" not in FILES[module].read_text():
                assert order.index(of) <= order.index(str(own)), f"{module} imports {other}"


def test_nothing_is_imported_in_a_circle() -> None:
    """Modules of a registry import it, and it imports them when it is looked into: that is no circle."""
    registries = {module for module, path in FILES.items() if re.search(r"Registry\(\"[^)]*, ", path.read_text())}
    graph = {module: imported(module) for module in FILES if module not in registries}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_nothing_imports_launchers() -> None:
    for module in FILES:
        if module.startswith(PACKAGE):
            assert not any(name.startswith("launchers") for name in imported(module)), module


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_no_project_import_inside_a_function(path: Path) -> None:
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom):
                    assert not (node.module or "").startswith(PACKAGES)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_name_is_imported_from_the_module_that_defines_it(path: Path) -> None:
    """Not through a package that gives it for others' convenience: what a result depends on would not be seen."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module in FILES:
            text = FILES[node.module].read_text()
            if "exports(" in text and FILES[node.module].name == "__init__.py":
                assert all(f"{node.module}.{alias.name}" in FILES for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_trackers_are_imported_by_tracking_alone(path: Path) -> None:
    text = path.read_text()
    if "tracking" not in path.parts:
        assert not re.search(r"^\s*(import|from) (mlflow|wandb)", text, re.M)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_constants_stand_in_one_place(path: Path) -> None:
    if path.name != "constants.py":
        assert not re.search(r"\b(6\.37[0-9]*e6|1035|1025|3992|3850|7\.2921e-5)\b", path.read_text())


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_depends_on_the_code_that_a_stage_runs_and_on_no_other(stage: str) -> None:
    """Without exemption: all that a stage reaches by imports, and nothing that it does not reach."""
    listed = [dep for dep in content()[stage]["deps"] if dep.startswith(f"{PACKAGE}/")]
    expected = cover(reached(f"{PACKAGE}.stages.{stage}"))
    assert listed == expected, "dvc.yaml should list:\n" + "\n".join(f"      - {path}" for path in expected)


@pytest.mark.parametrize("stage", ["stats", "train", "evaluate", "compare"])
def test_nothing_is_made_again_for_an_edit_of_what_reads_sources_or_keeps_records(stage: str) -> None:
    files = {path.relative_to(ROOT).as_posix() for path in reached(f"{PACKAGE}.stages.{stage}")}
    for path in ("datasets/source", "tracking", "cli", "plan.py", "experiment.py", "datasets/preparation"):
        assert not any(file.startswith(f"{PACKAGE}/{path}") for file in files), path


def test_params_and_dvc_yaml_name_the_same_things() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for stage, entry in content().items():
        for key in entry["params"]:
            node = params
            for part in key.split("."):
                assert part in node, f"{stage}: {key}"
                node = node[part]


def test_preparation_depends_on_all_of_the_data_section_but_statistics() -> None:
    params = content()["prepare"]["params"]
    assert {key.removeprefix("data.") for key in params} == set(DataConfig.model_fields) - {"statistics"}


def test_the_workspace_names_the_outs_of_dvc() -> None:
    outs = {
        next(iter(out)) if isinstance(out, dict) else out
        for entry in content().values()
        for out in [*entry["outs"], *entry.get("metrics", [])]
    }
    here = Workspace(Path("/p"), Path("/p"))
    named = {here.prepared, here.statistics}
    for files in (here.training, here.evaluation, here.comparison):
        properties = [name for name, value in vars(type(files)).items() if isinstance(value, property)]
        named |= {getattr(files, name) for name in properties}
    assert {path.relative_to("/p").as_posix() for path in named} == outs


def test_functions_fit_a_screen() -> None:
    for path in SOURCES:
        assert len(path.read_text().splitlines()) <= 400, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path.name}: {node.name}"


def test_no_test_imports_from_another() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            for name in [module, *names]:
                assert not name.rpartition(".")[2].startswith("test_"), f"{path.name}: {ast.unparse(node)}"
