"""The configuration system: what is refused, and how; includes, overrides, rendering; the presets that are shipped."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchers.config import Local, Slurm, parse_launch_config
from ocean_emulators.config.base import Config, parse
from ocean_emulators.config.overrides import apply_overrides
from ocean_emulators.config.render import render
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.source.pinning import read_pointer
from ocean_emulators.errors import UserError
from ocean_emulators.experiment import Experiment
from ocean_emulators.ocean.calendar import within
from ocean_emulators.testing.coded_ocean import om4_times
from tests import tiny

ROOT = Path(__file__).parents[1]


def subclasses(cls: type[Config]) -> Iterator[type[Config]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from subclasses(sub)


@pytest.mark.parametrize("cls", sorted(set(subclasses(Config)), key=lambda c: c.__qualname__), ids=lambda c: c.__name__)
def test_every_config_is_frozen_and_refuses_unknown_keys(cls: type[Config]) -> None:
    assert cls.model_config["frozen"]
    assert cls.model_config["extra"] == "forbid"


@pytest.mark.parametrize("cls", [Experiment, *sorted(set(subclasses(Config)), key=lambda c: c.__qualname__)])
def test_every_field_says_what_it_means(cls: type[Config]) -> None:
    if cls.__module__.startswith(("ocean_emulators", "launchers")):
        for name, field in cls.model_fields.items():
            assert field.description, f"{cls.__name__}.{name}"


def refused(changes: list[str]) -> str:
    with pytest.raises(UserError) as caught:
        parse(Experiment, apply_overrides(Experiment, tiny.experiment(), changes), "params.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("model.widht=3", ["model.widht", "unknown key", "did you mean 'width'"]),
        ("train.epochs=many", ["train.epochs", "'many'", "integer"]),
        ("model.type=unet", ["model.type: found 'unet'", "expected one of: fomo, samudra"]),
        ("model={type: null}", ["model.type: found nothing: expected one of"]),
        ("model=null", ["model: found nothing: expected keys and values"]),
        ("evaluation.led_days=30", ["evaluation.led_days: unknown key", "did you mean 'lead_days'"]),
        ("evaluation=null", ["evaluation: found nothing: expected keys and values"]),
        ("train.epochs=2.5", ["train.epochs: found 2.5: expected an integer"]),
        ("train.epochs=2.0", ["train.epochs: found 2.0: expected an integer"]),
        ("train.epochs='2'", ["train.epochs: found '2': expected an integer"]),
        ("train.epochs=null", ["train.epochs: found nothing: expected an integer"]),
        ("train.learning_rate=yes", ["train.learning_rate: found 'yes': expected a number"]),
        ("train.learning_rate=true", ["train.learning_rate: found True: expected a number"]),
        ("train.learning_rate=.nan", ["train.learning_rate: found nan", "finite"]),
        ("train.learning_rate=1e400", ["train.learning_rate: found inf", "finite"]),
        ("data.levels=[no, 1]", ["data.levels.0: found 'no': expected an integer"]),
        ("data.levels=0", ["data.levels: found 0: expected a list"]),
        ("name=2000", ["name: found 2000: expected text (in quotes"]),
        ("model.head_kernel=2", ["model.head_kernel", "2", "1 or 3"]),
        ("data.periods.train.end=2001-13-01", ["data.periods.train.end: found 2001-13-01: there is no month 13"]),
        ("data.periods.train.end=2001-06-31", ["data.periods.train.end: found 2001-06-31: there is no such day"]),
        (
            "model={type: fomo, encoder: {type: perceiver, depht: 3}}",
            ["model.encoder.depht: unknown key", "did you mean 'depth'"],
        ),
        ("model={type: fomo, width: 3}", ["model.width: unknown key", "known are", "processor"]),
        ("train.epochs=-1", ["train.epochs", "-1", "greater than or equal to 0"]),
        ("train.epochs=0", ["train: epochs", "found 0: expected 1 or more, or initial_weights"]),
        (
            "train.initial_weights={path: /weights.pt, sha256: " + 64 * "a" + "}",
            ["train.initial_weights.path", "'/weights.pt'", "relative to the project's root"],
        ),
        ("data.periods.test.start=2002-06-01", ["data.periods", "validation", "test", "overlap"]),
        ("data.periods.train.start=2003-01-01", ["data.periods.train", "ends (2001-12-31) before it starts"]),
        ("data.periods.train.start=1 Jan", ["data.periods.train.start", "YYYY-MM-DD"]),
        ("data.prognostic=[thetao, hfds]", ["data.prognostic", "'hfds' is a forcing field"]),
        ("data.prognostic=[theta]", ["data.prognostic", "no field 'theta'", "thetao"]),
        (
            "data.source=s3://bucket/om4.zarr",
            ["data.source", "'s3://bucket/om4.zarr'", "a URL stands in a pointer file"],
        ),
        (
            "data.statistics={published_means: 's3://b/means.zarr', published_stds: stds.zarr}",
            ["data.statistics.published_means", "'s3://b/means.zarr'", "expected a path"],
        ),
        ("data.levels=[1, 0]", ["data.levels", "[1, 0]"]),
        ("model.widths=[4]", ["model: widths has 1 resolutions and dilation 2"]),
        ("model.forcing_times=[2]", ["model", "forcing_times", "0 to 1"]),
        ("train.loss={field_weights: {hfds: 2}}", ["field_weights", "'hfds'"]),
        (
            "train.loss.field_weights={thetao: 0, so: 0, uo: 0, vo: 0, zos: 0}",
            ["train.loss.field_weights: all are 0, so that nothing would be learnt"],
        ),
        (
            "train.rollout_steps=[1, 1, 2, 3]",
            ["train: rollout_steps: found [1, 1, 2, 3], of which 2 epoch(s) leave out 2"],
        ),
        ("train.detach_every=2", ["train: detach_every: found 2, but rollouts of 2 model step(s)", "nothing is cut"]),
        ("train.strides=[1, 1]", ["train.strides: found [1, 1]: expected each distance once"]),
        ("train.adam_betas=[0.9, 1]", ["train.adam_betas.1: found 1", "less than 1"]),
        ("train.seed=9223372036854775808", ["train.seed", "less than 9223372036854775808"]),
        ("model.width=1000000000", ["model.width: found 1000000000", "less than or equal to 65536"]),
        (
            "model={type: fomo, decoder: {type: perceiver, latents: 65536}}",
            ["model.decoder: latents: 65536 of width 64, with 8 heads of 64, need 100,663,296 values", "give fewer"],
        ),
        (
            "model={type: fomo, encoder: {type: perceiver, depth: 17}}",
            ["model.encoder.depth", "less than or equal to 16"],
        ),
        ("model.head_kernel=true", ["model.head_kernel: found True: expected an integer"]),
        ("evaluation.report_days=[500]", ["evaluation: report_days: found [500.0]", "end after 30 days", "up to that"]),
        ("evaluation.report_days=[]", ["evaluation.report_days", "at least 1 item"]),
        ("comparison.baselines=[climatology, climatology]", ["comparison.baselines", "expected each baseline once"]),
        ("name=' '", ["name: found ' '"]),
        ("comparison.baselines=[guess]", ["comparison.baselines", "'guess'", "persistence"]),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_way_out(change: str, parts: list[str]) -> None:
    message = refused([change])
    assert message.startswith("params.yaml: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_many_mistakes_are_not_all_told() -> None:
    message = refused([f"data.levels=[{', '.join(5000 * ['x'])}]"])
    assert len(message.splitlines()) == 21
    assert message.endswith("and 4980 more")


def numbers(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every number that a JSON schema has, with its place."""
    if isinstance(schema, dict):
        if schema.get("type") in ("integer", "number") and not {"const", "enum"} & set(schema):
            yield where, schema
        for key, part in schema.items():
            yield from numbers(part, f"{where}/{key}")
    elif isinstance(schema, list):
        for part in schema:
            yield from numbers(part, where)


@pytest.mark.parametrize("cls", [Experiment, Local, Slurm])
def test_every_number_has_bounds(cls: type[Config]) -> None:
    found = list(numbers(cls.model_json_schema()))
    assert len(found) > (40 if cls is Experiment else 3)
    for where, schema in found:
        assert {"minimum", "exclusiveMinimum"} & set(schema) and {"maximum", "exclusiveMaximum"} & set(schema), where


LOOKS_LIKE = {
    bool: ["1", "0", "yes", "'true'"],
    int: ["true", "yes", "'1'", "1.5", "1_0"],
    float: ["true", "no", "'1.0'", "1:30"],
}


def test_no_boolean_and_no_text_is_taken_for_a_number() -> None:
    """The kind behind `learning_rate: yes`: each value of the whole experiment, and what looks like it and is none."""
    trees = [parse(Experiment, tiny.experiment(), "tiny").dump()]
    trees += [parse(Experiment, load_yaml(ROOT / "configs" / "experiment" / "om4_fomo.yaml"), "x").dump()]
    for tree in trees:
        for key, value in leaves(tree):
            wrong = {
                bool: ["1", "0", "yes", "'true'"],
                int: ["true", "yes", "'1'", "1.5", "1_0"],
                float: ["true", "no", "'1.0'"],
            }
            for text in wrong.get(type(value), []):
                with pytest.raises(UserError, match=re.escape(key)):
                    parse(Experiment, apply_overrides(Experiment, tree, [f"{key}={text}"]), "x")


def test_a_missing_key_is_named() -> None:
    tree = tiny.experiment()
    del tree["train"]["epochs"]
    with pytest.raises(UserError, match=r"params.yaml: train.epochs: missing"):
        parse(Experiment, tree, "params.yaml")


def test_an_override_below_a_key_that_does_not_exist_is_named() -> None:
    message = refused(["train.epoch.x=1"])
    assert message == "override 'train.epoch.x=1': no key 'epoch' at train; did you mean 'epochs'?"


def test_all_mistakes_are_told_at_once() -> None:
    assert len(refused(["data.levels=[no, yes]"]).splitlines()) == 2
    assert len(refused(["train.epochs=many", "model.norm=group"]).splitlines()) == 2


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_includes_are_relative_to_the_including_file(tmp_path: Path) -> None:
    write(tmp_path / "parts" / "inner.yaml", "x: 1")
    write(tmp_path / "parts" / "outer.yaml", "inner: !include inner.yaml")
    assert load_yaml(write(tmp_path / "top.yaml", "outer: !include parts/outer.yaml")) == {"outer": {"inner": {"x": 1}}}


def test_circular_includes_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "b.yaml", "a: !include a.yaml")
    with pytest.raises(UserError, match=r"a.yaml: includes itself: .*a.yaml -> .*b.yaml -> .*a.yaml"):
        load_yaml(write(tmp_path / "a.yaml", "b: !include b.yaml"))


def test_a_missing_include_names_the_including_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.yaml: no such file, included by .*top.yaml"):
        load_yaml(write(tmp_path / "top.yaml", "a: !include none.yaml"))


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"top.yaml: not valid YAML: the key 'a' is given twice \(line 2"):
        load_yaml(write(tmp_path / "top.yaml", "a: 1\na: 2"))


def test_anchors_and_merge_keys_work_and_dates_stay_text(tmp_path: Path) -> None:
    tree = load_yaml(write(tmp_path / "a.yaml", "base: &b {x: 1, y: 2}\nnew: {<<: *b, y: 1900-02-29}"))
    assert tree["new"] == {"x": 1, "y": "1900-02-29"}


def test_overrides_set_values_by_type_and_index() -> None:
    tree = {"a": {"b": 1}, "c": [1, 2]}
    assert apply_overrides(Config, tree, ["a.b=[1, x]", "c.1=3.5", "a.new=null"]) == {
        "a": {"b": [1, "x"], "new": None},
        "c": [1, 3.5],
    }
    assert tree == {"a": {"b": 1}, "c": [1, 2]}


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a tree, and every member of a list, with its value."""
    named = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in named:
        yield f"{path}{key}", value
        yield from leaves(value, f"{path}{key}.")


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "experiment").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_key_of_params_yaml_can_be_overridden_where_a_preset_leaves_it_out(path: Path) -> None:
    """Setting a key of the whole experiment to what it is changes nothing, whether the preset has it or not."""
    preset, whole = load_yaml(path), parse(Experiment, load_yaml(path), path.name)
    for key, value in leaves(whole.dump()):
        changed = apply_overrides(Experiment, preset, [f"{key}={json.dumps(value)}"])
        assert parse(Experiment, changed, key) == whole, key


def test_a_mapping_changes_what_it_names_unless_it_is_of_another_type() -> None:
    tree = {"model": {"type": "samudra", "widths": [4]}, "train": {"loss": {"metric": "mae"}}}
    changed = apply_overrides(Experiment, tree, ["train.loss={unit: state}", "model={norm: none}"])
    assert changed["train"]["loss"] == {"metric": "mae", "unit": "state"}
    assert changed["model"] == {"type": "samudra", "widths": [4], "norm": "none"}
    assert apply_overrides(Experiment, tree, ["model={type: fomo}"])["model"] == {"type": "fomo"}
    assert apply_overrides(Experiment, changed, ["train.loss=null"])["train"] == {"loss": None}


def test_the_type_of_a_component_that_is_left_out_begins_it_anew() -> None:
    changed = apply_overrides(Experiment, {"model": {"type": "fomo"}}, ["model.encoder.type=conservative"])
    assert changed["model"]["encoder"] == {"type": "conservative"}
    changed = apply_overrides(Experiment, {"model": {"type": "fomo"}}, ["model.encoder.width=64"])
    assert changed["model"]["encoder"]["type"] == "perceiver"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a", "expected KEY=VALUE"),
        ("x.b=1", "no key 'x' at the top level; known are: a, c"),
        ("c.7=1", "c is a list of 2"),
        ("a.b.c=1", "a.b is a single value"),
        ("a.b=[1", "not valid YAML: expected ',' or ']'"),
        ("=1", "expected KEY=VALUE"),
        (".a=1", "no key '' at the top level"),
        ("c.-1=1", "c is a list of 2"),
        ("c.²=1", "c is a list of 2"),
        ("c.00=1", "c is a list of 2"),
    ],
)
def test_bad_overrides_are_refused(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        apply_overrides(Config, {"a": {"b": 1}, "c": [1, 2]}, [override])
    assert message in str(caught.value)


class Leaf(Config):
    number: float = 0.0
    text: str = ""
    items: tuple[str | int, ...] = ()


class Tree(Config):
    leaf: Leaf = Leaf()
    """a branch
    of two lines"""
    mapping: dict[str, float] = {}  # noqa: RUF012


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"])),
    st.lists(st.sampled_from(["yes", "2001-02-03", "1e3", "null", "a: b", "#x", "plain", 7])),
)
def test_rendering_and_reading_give_the_same(number: float, text: str, items: list[Any]) -> None:
    tree = Tree(leaf=Leaf(number=number, text=text, items=tuple(items)), mapping={"k": number})
    path = Path("/tmp") / "ocean_emulators_render_test.yaml"
    path.write_text(render(tree, "a header"))
    assert parse(Tree, load_yaml(path), "x") == tree


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "experiment").glob("*.yaml")), ids=lambda p: p.stem)
def test_experiment_presets_parse_and_render(path: Path, tmp_path: Path) -> None:
    experiment = parse(Experiment, load_yaml(path), str(path))
    assert parse(Experiment, load_yaml(write(tmp_path / "x.yaml", render(experiment))), "x") == experiment


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "launch").glob("*.yaml")), ids=lambda p: p.stem)
def test_launch_presets_parse(path: Path) -> None:
    assert parse_launch_config(load_yaml(path), str(path)).dump()["where"] == path.stem


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"where": "moon"}, "x: where: found 'moon': expected one of: inline, local, slurm"),
        ({"processes": 2}, "x: processes: unknown key"),
        ({"where": "slurm", "partion": "gpu"}, "x: partion: unknown key; did you mean 'partition'?"),
        ([1], "x: expected keys and values"),
    ],
)
def test_launch_files_say_what_is_wrong(tree: Any, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_launch_config(tree, "x")
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "data").glob("*.yaml")), ids=lambda p: p.stem)
def test_data_presets_parse_and_their_sources_are_here(path: Path) -> None:
    config = parse(DataConfig, load_yaml(path), str(path))
    source = ROOT / config.source
    assert source.exists()
    if source.suffix == ".yaml":
        assert read_pointer(source).pointer == source


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "data").glob("om4_*.yaml")), ids=lambda p: p.stem)
def test_om4_presets_have_the_published_channels_and_periods(path: Path) -> None:
    config = parse(DataConfig, load_yaml(path), str(path))
    assert (len(config.prognostic_channels), len(config.forcing_channels)) == (77, 4)
    time = om4_times(4745)
    counts = [within(time, p.start, p.end).sum() for p in (config.periods.train, config.periods.validation)]
    assert counts == [2829, 74]
    assert within(time, config.periods.test.start, config.periods.test.end).sum() == 600


def test_every_model_preset_is_part_of_an_experiment() -> None:
    texts = "".join(p.read_text() for p in (ROOT / "configs" / "experiment").glob("*.yaml"))
    for path in (ROOT / "configs" / "model").glob("*.yaml"):
        assert f"!include ../model/{path.name}" in texts


def test_params_yaml_is_the_rendered_default_experiment() -> None:
    preset = ROOT / "configs" / "experiment" / "sample.yaml"
    header, _, body = (ROOT / "params.yaml").read_text().partition("\n# name of the MLflow")
    assert "configs/experiment/sample.yaml" in header
    assert "\n# name of the MLflow" + body == "\n" + render(parse(Experiment, load_yaml(preset), "sample"))


def test_the_schema_knows_meanings_and_refuses_unknown_keys() -> None:
    schema = Experiment.model_json_schema()
    train = schema["$defs"]["TrainConfig"]
    assert "optimiser step" in train["properties"]["batch_size"]["description"]
    assert train["additionalProperties"] is False
