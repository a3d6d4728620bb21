"""A configuration as a YAML file in which every value has its description beside it."""

import json
import re
from typing import Any

from ocean_emulators.config.base import Config

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_UNSEEN = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""characters that JSON leaves in text, and that YAML refuses or takes for the end of a line"""
_WORDS_OF_YAML = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def render(config: Config, header: str = "") -> str:
    """The whole configuration as YAML, block style, with each field's description as a comment above it.

    Reading the text back gives an equal configuration.
    """
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    lines += _mapping(config, indent=0)
    return "\n".join(lines) + "\n"


def _mapping(config: Config, indent: int) -> list[str]:
    lines: list[str] = []
    pad = " " * indent
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if indent == 0 and lines:
            lines.append("")
        if field.description:
            lines += [f"{pad}# {line}" for line in field.description.splitlines()]
        if isinstance(value, Config):
            lines += [f"{pad}{name}:", *_mapping(value, indent + 2)]
        else:
            lines.append(f"{pad}{name}: {_flow(config.model_dump(mode='json', include={name})[name])}")
    return lines


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS_OF_YAML:
        return value
    if isinstance(value, float):
        return _number(value)
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))


def _number(value: float) -> str:
    """Readers of YAML 1.1 take `1e-05` for text: an exponent needs a point before it."""
    text = repr(value)
    return text.replace("e", ".0e") if "e" in text and "." not in text else text
