"""The tiny run gives what it gave: a change of results is meant, and is seen in a commit, or it is a fault."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ocean_emulators.workspace import Workspace
from tests.golden import FILE, measured

RELATIVE, ABSOLUTE = 1e-4, 1e-5
"""Last digits of float32 differ between processors: without AVX, with another BLAS, by 1e-6 (measured). An epoch in another
order or a mask that is moved by a cell changes the second digit. Biases near zero have no relative accuracy."""


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Each value with its place."""
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, f"{name}.{key}")
    else:
        yield name, tree


def test_loss_curve_and_scores_are_what_they_were(made: Workspace) -> None:
    """If the change is meant: `python -m tests.golden`, and say in the commit why it is right."""
    found, expected = dict(leaves(measured(made))), dict(leaves(json.loads(FILE.read_text())))
    assert list(found) == list(expected)
    off = {
        name: (found[name], value)
        for name, value in expected.items()
        if found[name] != (value if isinstance(value, str) else pytest.approx(value, rel=RELATIVE, abs=ABSOLUTE))
    }
    assert not off, f"{len(off)} of {len(expected)} values differ; (found, expected) by name"
