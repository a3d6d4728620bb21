"""Keeps secrets out of records: keys in URLs, and the values of environment variables that hold some."""

import os
import re
from typing import TypeVar

from ocean_emulators.errors import HIDDEN, mask

_SECRET_NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
_SHORTEST = 8
"""letters of a value that is no common word"""

Plain = TypeVar("Plain")


def hide(value: Plain) -> Plain:
    """Plain data without secrets in their texts."""
    return _hide(value, _secrets())


def _secrets() -> list[str]:
    found = {value for name, value in os.environ.items() if _SECRET_NAMES.search(name) and len(value) >= _SHORTEST}
    return sorted(found, key=len, reverse=True)


def _hide(value: Plain, secrets: list[str]) -> Plain:
    plain: object = value
    if isinstance(plain, dict):
        plain = {key: _hide(part, secrets) for key, part in plain.items()}
    elif isinstance(plain, list | tuple):
        plain = type(plain)(_hide(part, secrets) for part in plain)
    elif isinstance(plain, str):
        plain = mask(plain)
        for secret in secrets:
            plain = plain.replace(secret, HIDDEN)
    return plain  # type: ignore[return-value]
