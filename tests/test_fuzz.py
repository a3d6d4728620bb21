"""Whatever is written into an experiment: it is read, or refused in words; it renders and reads back as it was; what `check`
says of it comes in bounded time; and what passes `check` can be built and stepped.

Experiments are made from the JSON schema: some values of a whole one are replaced by others that the schema allows, that
lie at or beyond its bounds, or that are of another kind. OCEAN_EMULATORS_FUZZ is how many of them there are (500).
"""

import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocean_emulators.build import build_trainer
from ocean_emulators.config.base import parse
from ocean_emulators.config.overrides import apply_overrides
from ocean_emulators.config.render import render
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.datasets.loading.train_data import Draw
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.datasets.statistics.stored import Statistics
from ocean_emulators.datasets.store.packed_store import PackedStore
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment
from ocean_emulators.plan import Plan, make_plan
from ocean_emulators.runtime import Runtime
from ocean_emulators.train.optimisation import NotFiniteError
from ocean_emulators.workspace import Workspace
from tests import tiny

EXAMPLES = int(os.environ.get("OCEAN_EMULATORS_FUZZ", "500"))
SECONDS = 20
SCHEMA = Experiment.model_json_schema()
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
seen: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def told() -> Iterator[None]:
    """What became of the experiments (`pytest -s`)."""
    yield
    print(dict(seen))


def some(examples: int) -> Any:
    return settings(
        max_examples=max(1, examples),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


@contextmanager
def bounded(seconds: float = SECONDS) -> Iterator[None]:
    """What takes longer, of a processor's time, fails. (Not stopped by a signal, which torch does not survive.)"""
    began = time.process_time()
    yield
    assert time.process_time() - began < seconds


SAMUDRA = {"type": "samudra", "widths": [6, 8], "dilation": [1, 2], "expansion": 1, "norm": "none"}
FOMO = {
    "type": "fomo",
    "patch_extent": [22.5, 22.5],
    "encoder": {"type": "conservative", "width": 4},
    "processor": {"widths": [4, 4], "dilation": [1, 1], "expansion": 1, "norm": "none"},
    "decoder": {"type": "residual", "width": 4},
}
PERCEIVER = {
    **FOMO,
    "encoder": {"type": "perceiver", "width": 4, "latents": 2, "latent_width": 4, "heads": 2, "head_width": 4},
    "decoder": {
        "type": "perceiver",
        "latents": 2,
        "latent_width": 4,
        "heads": 2,
        "head_width": 4,
        "query_width": 4,
        "window": 4,
    },
}
WHOLE = [
    parse(Experiment, {**tiny.experiment(), "model": model}, "tiny").dump() for model in (SAMUDRA, FOMO, PERCEIVER)
]

FIELDS = ["thetao", "so", "uo", "vo", "zos", "hfds", "tauuo"]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [0, -1, 1, 10**9, 10**30, -(10**30), 2**63 - 1, 2**63, 0.5, 1e-300, 1e300, math.nan, math.inf, -math.inf]
    ),
    st.sampled_from(
        ["", "yes", "1", "1e-5", " ", "\n", "\0", "a" * 5000, "\u2028", "2001-02-30", "../..", "/", "x1", "s3://a/b"]
    ),
    st.text(max_size=10),
    st.integers(),
    st.floats(),
    st.lists(st.integers(-1, 3), max_size=4),
    st.dictionaries(st.text("ab.", max_size=2), st.integers(), max_size=2),
)


def numbers(schema: dict[str, Any], whole: bool) -> st.SearchStrategy[Any]:
    """At, near and just beyond the bounds, and usual ones."""
    ends = [schema[k] for k in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum") if k in schema]
    near = [end + step for end in ends for step in ((-1, 0, 1) if whole else (-1e-9, 0.0, 1e-9))]
    usual = st.integers(0, 12) if whole else st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0, 2.0, 5.0, 10.0, 30.0])
    return st.one_of(usual, usual, st.sampled_from(near)) if near else usual


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a JSON schema describes, roughly: of its kind, now and then out of bounds."""
    if "$ref" in schema:
        return values(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return st.one_of(*map(values, schema[choice]))
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items") or schema["prefixItems"][0]
        return st.lists(values(items), max_size=4)
    if kind == "object":
        fields = schema.get("properties", {})
        required = {name: values(part) for name, part in fields.items() if name in schema.get("required", ())}
        optional = {name: values(part) for name, part in fields.items() if name not in required}
        if not fields:
            return st.dictionaries(st.sampled_from(FIELDS), values(schema["additionalProperties"]))
        return st.fixed_dictionaries(required, optional=optional)
    simple = {
        "integer": numbers(schema, whole=True),
        "number": numbers(schema, whole=False),
        "boolean": st.booleans(),
        "null": st.none(),
        "string": st.sampled_from([*FIELDS, "2001-06-31", "2002-02-29", "2002-07-01", "x1", "x2", "a name"]),
    }
    return simple[kind]


def schema_at(path: list[str | int]) -> dict[str, Any] | None:
    """Of the value that stands there in one of the whole experiments; of components with a choice, all choices."""
    nodes = [SCHEMA]
    for part in path:
        following = []
        for node in nodes:
            for option in options(node):
                if isinstance(part, int):
                    following += (
                        [option["items"]] if "items" in option else option.get("prefixItems", [])[part : part + 1]
                    )
                elif part in option.get("properties", {}):
                    following.append(option["properties"][part])
        nodes = following
    return {"anyOf": nodes} if nodes else None


def options(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in schema:
        yield from options(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    elif "anyOf" in schema or "oneOf" in schema:
        for part in schema.get("anyOf", schema.get("oneOf", [])):
            yield from options(part)
    else:
        yield schema


def places(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    named: Any = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in named:
        yield (*path, key)
        yield from places(value, (*path, key))


PLACES = [list(places(tree)) for tree in WHOLE]


@st.composite
def changes(draw: Any, only: tuple[str, ...] = ()) -> tuple[int, list[tuple[str, Any]]]:
    """Which whole experiment, and new values at some of its places (below the sections `only`)."""
    which = draw(st.integers(0, len(WHOLE) - 1))
    allowed = [p for p in PLACES[which] if not only or (p[0] in only and len(p) > 1)]
    made = []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        path = draw(st.sampled_from(allowed))
        schema = schema_at(list(path))
        value = draw(values(schema) if schema and draw(st.integers(0, 9)) else ODD)
        made.append((".".join(map(str, path)), value))
    return which, made


def changed(which: int, made: list[tuple[str, Any]], source: Path | None = None) -> Experiment | None:
    """The experiment with changes, or None where it is refused."""
    tree = WHOLE[which] | ({"data": WHOLE[which]["data"] | {"source": str(source)}} if source else {})
    with bounded():
        try:
            experiment = parse(
                Experiment, apply_overrides(Experiment, tree, [f"{k}={as_yaml(v)}" for k, v in made]), "x"
            )
        except UserError as error:
            seen["refused"] += 1
            assert 0 < len(str(error)) < 20_000
            return None
    seen["read"] += 1
    return experiment


def as_yaml(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    return json.dumps(value)


@some(EXAMPLES)
@given(changes())
def test_an_experiment_is_read_and_rendered_or_refused(tmp_path_factory: pytest.TempPathFactory, change: Any) -> None:
    experiment = changed(*change)
    if experiment:
        path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
        path.write_text(render(experiment), encoding="utf-8")
        assert parse(Experiment, load_yaml(path), "x") == experiment


@some(EXAMPLES // 10)
@given(changes())
def test_what_is_read_has_a_plan_or_is_refused(source: Path, change: Any) -> None:
    experiment = changed(*change, source=source)
    if experiment:
        assert_planned_or_refused(experiment)


def assert_planned_or_refused(experiment: Experiment) -> Plan | None:
    with bounded():
        try:
            plan = make_plan(experiment)
        except UserError as error:
            seen["no plan"] += 1
            assert 0 < len(str(error)) < 20_000
            return None
    seen["plan"] += 1
    return plan


@some(EXAMPLES // 5)
@given(changes(("model", "train")))
def test_what_has_a_plan_can_be_built_and_stepped(
    source: Path, store: PackedStore, statistics: Statistics, tmp_path_factory: pytest.TempPathFactory, change: Any
) -> None:
    experiment = changed(*change, source=source)
    plan = assert_planned_or_refused(experiment) if experiment else None
    if experiment is None or plan is None or experiment.model.compile or not experiment.train.epochs:
        return
    # Of what would take a minute or gigabytes here, the plan says so.
    if plan.cost.training_bytes(max(experiment.train.rollout_steps), 2) > 2**30 or plan.cost.training_flops > 3e9:
        seen["too large"] += 1
        return
    grid, folder = PreparedGrid.of("x1", store, statistics), tmp_path_factory.getbasetemp()
    with bounded(60):
        trainer = build_trainer(
            experiment.training, {"x1": grid}, Runtime(), Workspace(folder, folder), folder / "states"
        )
        for phase, loader in zip(trainer.phases.phases, trainer.loaders, strict=True):
            batch = loader.data.load(Draw("x1", [0, 1]))
            generators = [torch.Generator() for _ in range(2)]
            trainer.optimisation.backward(trainer.stepper.train_batch(batch, phase.longest, generators).loss)
        with suppress(NotFiniteError):  # of a rate or weights that no one would use
            trainer.optimisation.step()
        trainer.averages.update()
    seen["stepped"] += 1
