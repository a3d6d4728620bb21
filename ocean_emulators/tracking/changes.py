"""How an experiment differs from the one that was committed last, and what its run is called after that."""

import json
import re
from collections.abc import Mapping
from typing import Any

from ocean_emulators.config.yaml_files import parse_scalar
from ocean_emulators.errors import UserError
from ocean_emulators.lock import differences
from ocean_emulators.tracking.git import git
from ocean_emulators.workspace import PARAMS

CHANGED, DVC_NAME = "changed", "dvc.experiment"
"""tags of a record"""
NONE = "none"
_NEXT = re.compile(r", (?=[\w.]+=)")
"""between two changes, but not within a list or a mapping"""
_WORD = re.compile(r'"([A-Za-z_][\w./-]*)"')
"""text that needs no quotes"""
_NAMED, _VALUE_LETTERS = 3, 24
"""changes that a name tells, and letters of a value"""
_KEY_LETTERS = 8
_LONGEST = 4000
"""letters of a tag, less than what MLflow takes"""


def changes_of_params(config: Mapping[str, Any]) -> str:
    """The values that are not those of the last commit, as `model.widths=[24, 32], train.seed=2`; else `none`.

    While DVC runs an experiment, that commit is what the experiment began from.
    """
    text = git("show", f"HEAD:./{PARAMS}").decode(errors="replace")
    try:
        committed = parse_scalar(text)
    except UserError:
        return NONE
    if not isinstance(committed, dict):
        return NONE
    changed = differences("", committed, json.loads(json.dumps(config)))
    return ", ".join(f"{key}={_text(now)}" for key, (_, now) in changed.items())[:_LONGEST] or NONE


def run_name(name: str, key: str, tags: Mapping[str, str]) -> str:
    """What a run is called: what it changes, and DVC's name of it, or else the experiment's name and letters of its key."""
    dvc, changed = tags.get(DVC_NAME, NONE), tags.get(CHANGED, NONE)
    handle = dvc if dvc != NONE else f"{name}-{key[:_KEY_LETTERS]}"
    return handle if changed == NONE else f"{short_changes(changed)} · {handle}"


def short_changes(changed: str) -> str:
    """Changes as `changes_of_params` tells them, in few letters: of keys as many last parts as tell them apart."""
    pairs = [change.partition("=")[::2] for change in _NEXT.split(changed)]
    keys = [key.split(".") for key, _ in pairs]
    parts = 1
    while len({tuple(key[-parts:]) for key in keys}) < len(keys) and parts < max(map(len, keys)):
        parts += 1
    shown = [f"{'.'.join(key[-parts:])}={_cut(value)}" for key, (_, value) in zip(keys, pairs, strict=True)]
    more = [f"+{len(shown) - _NAMED}"] if len(shown) > _NAMED else []
    return " ".join([*shown[:_NAMED], *more])


def _text(value: Any) -> str:
    """As one would write it in YAML."""
    return value if isinstance(value, str) else _WORD.sub(r"\1", json.dumps(value, ensure_ascii=False))


def _cut(value: str) -> str:
    value = value.replace(", ", ",")
    return value if len(value) <= _VALUE_LETTERS else f"{value[: _VALUE_LETTERS - 1]}…"
