"""What YAML files mean, and that what can't be read is refused in words and in bounded time, wherever it stands."""

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from ocean_emulators.config import load_yaml
from ocean_emulators.config.yaml_files import LARGEST_FILE, parse_scalar
from ocean_emulators.errors import UserError

WORDS = "yes no on off y n Yes NO tRue nULL none nan inf 12:30:00 2001-02-03 1_000 0b101 + . 1e 0x 1,000 1e5m ="
VALUES = [
    *((word, word) for word in WORDS.split()),
    *[("1e-4", 1e-4), ("1e-05", 1e-5), ("1E5", 1e5), ("1.", 1.0), (".5", 0.5), ("-.5e+3", -500.0), ("!!float 1", 1.0)],
    *[("+1", 1), ("-0", 0), ("0777", 777), ("0o17", 15), ("0x1F", 31), ("! 1", 1)],
    *[("1e400", float("inf")), (".inf", float("inf")), ("-.Inf", -float("inf"))],
    *[("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None)],
    *[("'1'", "1"), ('"true"', "true"), ("!!str 1", "1"), ("2001-02-03 04:05:06", "2001-02-03 04:05:06")],
    ("{yes: 1, 2: 3, null: 4, 1.5: 5}", {"yes": 1, "2": 3, "null": 4, "1.5": 5}),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_values_are_those_of_the_core_schema(text: str, value: Any) -> None:
    found = parse_scalar(text)
    assert (found, type(found)) == (value, type(value))


PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False),
    st.text(
        st.characters(
            codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufeff\ufffe\uffff"
        ),
        max_size=20,
    ),
    st.sampled_from(["yes", "1e-5", "0777", "12:30", "null", "1_000", "2001-02-03", "0b1", "~", "1e5", "=", "<<"]),
)


@given(
    st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc<", min_size=1), inner))
)
def test_what_dvc_writes_is_read_back(value: Any) -> None:
    """DVC edits params.yaml with ruamel."""
    stream = io.StringIO()
    YAML().dump({"value": value}, stream)
    assert parse_scalar(stream.getvalue()) == {"value": value}


@contextmanager
def refused(*parts: str, seconds: float = 10) -> Iterator[None]:
    began = time.process_time()
    with pytest.raises(UserError) as caught:
        yield
    assert time.process_time() - began < seconds
    assert len(str(caught.value)) < 1000
    for part in parts:
        assert part in str(caught.value)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


LAUGHS = b"a0: &a0 [x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 60)
)
MERGES = b"a0: &a0 {x: 1}\n" + b"".join(
    b"a%d: &a%d {<<: [%s], k%d: 1}\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9), i) for i in range(1, 40)
)
CHAIN = b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (i, i, i - 1) for i in range(1, 3000))
LONG_TEXTS = b"a: &a " + 150_000 * b"x" + b"\nb: [" + 10_000 * b"*a, " + b"]"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"a: 1\nb: \xff", ["not UTF-8: byte 0xff (line 2, column 4)"]),
        ("a: °".encode("latin-1"), ["not UTF-8: byte 0xb0 (line 1, column 4)"]),
        ("a: 1".encode("utf-16"), ["not UTF-8", "line 1, column 1"]),
        (b"a: 1\nb: x\0y", ["character #x0000", "line 2, column 5"]),
        (b"a: '\x1b'", ["character #x001b", "line 1, column 5"]),
        (b'a: "\\ud800"', ["surrogate", "line 1, column 4"]),
        (LAUGHS, ["more than", "values", "line"]),
        (MERGES, ["more than", "values", "line"]),
        (LONG_TEXTS, ["more than", "values", "line"]),
        (CHAIN, ["nested more than", "line"]),
        (b"a: &a [*a]", ["an alias inside of what it stands for"]),
        (b"a: &a {<<: *a}", ["an alias inside of what it stands for"]),
        (100_000 * b"[", ["nested more than", "line 1"]),
        (50_000 * b"{a: ", ["nested more than", "line 1"]),
        (50_000 * b"- ", ["nested more than", "line 1"]),
        (b"a: " + 5000 * b"9", ["a number of 5000 characters", "line 1, column 4"]),
        (2 * LARGEST_FILE * b"#", ["more than 200000 bytes"]),
        (b"a: 1\na: 2", ["the key 'a' is given twice (line 2, column 1)"]),
        (b"a: 1\n'a': 2", ["the key 'a' is given twice (line 2, column 1)"]),
        (b"{[1]: 2}", ["expected text as a key"]),
        (b"? {a: 1}\n: 2", ["expected text as a key"]),
        (b"a: !!python/object/apply:os.getcwd []", ["unknown tag"]),
        (b"a: !!binary aGk=", ["unknown tag"]),
        (b"a: !!set {b}", ["unknown tag"]),
        (b"a: !!map [b]", ["unknown tag"]),
        (b"a: !!int yes", ["found 'yes', which is no int"]),
        (b"a: !!float x", ["found 'x', which is no float"]),
        (b"a: !!bool yes", ["found 'yes', which is no bool"]),
        (b"a: !include", ["expected the name of a file"]),
        (b"a: !include [x]", ["expected the name of a file"]),
        (b'a: !include "x\\0"', ["expected the name of a file"]),
        (b"<<: 1", ["expected a mapping to merge"]),
        (b"a: 1\n---\nb: 1", ["another document", "line 2"]),
        (b"\ta: 1", ["line 1, column 1"]),
        (b"a: b: c", ["mapping values are not allowed here (line 1, column 5)"]),
        (b"a: [1", ["line 1"]),
        (b"a: *b", ["undefined alias 'b' (line 1, column 4)"]),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_is_no_yaml_is_refused_with_its_place(content: bytes, parts: list[str], tmp_path: Path) -> None:
    path = written(tmp_path / "params.yaml", content)
    with refused(f"{path}: not valid YAML: ", *parts):
        load_yaml(path)
    with refused("inner.yaml: not valid YAML: ", *parts):
        path.rename(tmp_path / "inner.yaml")
        load_yaml(written(path, b"a: {b: !include inner.yaml}"))


@pytest.mark.parametrize("way", ["includes", "aliases"])
def test_files_that_multiply_are_refused(way: str, tmp_path: Path) -> None:
    for i in range(40):
        many = (
            b", ".join([b"!include f%d.yaml" % (i + 1)] * 9)
            if way == "includes"
            else b"&a !include f%d.yaml, *a, *a, *a" % (i + 1)
        )
        written(tmp_path / f"f{i}.yaml", b"[%s]" % many)
    written(tmp_path / "f40.yaml", b"x")
    with refused("not valid YAML: "):
        load_yaml(tmp_path / "f0.yaml")


def test_a_long_chain_of_files_is_refused(tmp_path: Path) -> None:
    for i in range(2000):
        written(tmp_path / f"f{i}.yaml", b"!include f%d.yaml" % (i + 1))
    with refused("nested more than"):
        load_yaml(tmp_path / "f0.yaml")


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    assert load_yaml(written(tmp_path / "a.yaml", b"\xef\xbb\xbfa: 1")) == {"a": 1}


def test_what_is_no_file_is_told_so(tmp_path: Path) -> None:
    with refused(f"{tmp_path}: is a folder"):
        load_yaml(tmp_path)
    with refused("no such file"):
        load_yaml(tmp_path / "none.yaml")
    with refused("included by", "is a folder"):
        load_yaml(written(tmp_path / "a.yaml", b"a: !include ."))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with refused("can't be read"):
        load_yaml(tmp_path / "loop")
    with refused("can't be read: File name too long"):
        load_yaml(tmp_path / ("x" * 300))
    with refused("more than 200000 bytes"):
        load_yaml("/dev/zero")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told_so(tmp_path: Path) -> None:
    written(tmp_path / "a.yaml", b"a: 1").chmod(0)
    with refused("can't be read: Permission denied"):
        load_yaml(tmp_path / "a.yaml")


@given(st.text(st.sampled_from("ab:-?,[]{}&*!|>'\"%@`#\n \t<1.~\\xu0\0\ufeff"), max_size=60))
def test_any_text_is_a_value_or_refused(text: str) -> None:
    try:
        parse_scalar(text)
    except UserError as error:
        assert "not valid YAML" in str(error) or "no such file" in str(error) or "folder" in str(error)
