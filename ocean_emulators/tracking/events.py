"""What happens to an experiment, as its record holds it: a line of JSON each."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["done", "failed", "stopped", "killed"]
"""How a stage ends: by its results, an error, a signal or Ctrl-C that it heeded, or without a word."""


@dataclass(frozen=True)
class Begin:
    """A stage begins to write."""

    stage: str


@dataclass(frozen=True)
class End:
    """A stage has ended."""

    stage: str
    outcome: Outcome


@dataclass(frozen=True)
class Metrics:
    """Numbers at a step: an epoch, a batch, or a lead in days."""

    values: Mapping[str, float]
    step: int


@dataclass(frozen=True)
class File:
    """A file that was put beside the record; in the place of an earlier one of the same path, if there was one."""

    path: str
    """folder and name below the record's `files`"""
    sha256: str


@dataclass(frozen=True)
class Model:
    """A checkpoint was handed on. It may be large, so the record knows it without a copy."""

    path: str
    """where it lay then; DVC has it afterwards"""
    sha256: str
    md5: str
    """by which DVC's cache names it"""


@dataclass(frozen=True)
class Text:
    """What a reader of the record sees first, Markdown; in the place of an earlier one."""

    text: str


@dataclass(frozen=True)
class Tags:
    """What to look the experiment up by; later values take the place of earlier ones."""

    tags: Mapping[str, str]


What = Begin | End | Metrics | File | Model | Text | Tags
_KINDS: dict[str, type[What]] = {
    "begin": Begin,
    "end": End,
    "metrics": Metrics,
    "file": File,
    "model": Model,
    "text": Text,
    "tags": Tags,
}
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_NAMES = {kind: name for name, kind in _KINDS.items()}


@dataclass(frozen=True)
class Event:
    """Something that has happened."""

    at: int
    """when, in milliseconds since 1970"""
    what: What


def to_line(event: Event) -> bytes:
    """A line of JSON, with its end. JSON has no word for what is not finite: such numbers are texts (`"NaN"`)."""
    tree = {"at": event.at, "event": _NAMES[type(event.what)], **vars(event.what)}
    try:
        return _ENCODER.encode(tree).encode() + b"\n"
    except ValueError:
        tree["values"] = {name: _written(value) for name, value in tree["values"].items()}
        return _ENCODER.encode(tree).encode() + b"\n"


def from_line(line: bytes) -> Event | None:
    """What `to_line` wrote; None for anything else."""
    try:
        tree: dict[str, Any] = json.loads(line)
        at, kind = int(tree.pop("at")), _KINDS[tree.pop("event")]
        if kind is Metrics:
            tree["values"] = {name: float(value) for name, value in tree["values"].items()}
        return Event(at, kind(**tree))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _written(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
