"""The exceptions for what a user can get wrong and for work that was stopped, and what no text may say: keys in URLs."""

import re
from typing import Any

HIDDEN = "***"

# Up to what ends a URL in a text, or another one behind a comma.
_URL = re.compile(r"""(?<=://)(?:(?![,;|][a-z][\w+.-]*://)[^\s"<>])+""", re.IGNORECASE)
# A password may hold anything, so that it ends at the last @. `git@` is how everyone is called who shows a key of SSH.
_LOGIN = re.compile(r"\A(?!git@)(?:[^/?#@:]*:.*@|[^/?#]*@)")
_QUERY = re.compile(r"""([?#&;](?:[^=&;#]*=)?)[^&#]+?(?=[')\],.:;]*(?:[&#]|$))""")
# Libraries quote the path of a URL without its server.
_NAMED = re.compile(
    r"""([?&][\w.-]*(?:token|key|sig|secret|pass|pw|cred|auth|code)[\w.-]*=)[^\s&#"'<>]+""", re.IGNORECASE
)


LOST = "has lost the others"
"""What a process says that works with others, when another has failed."""


class UserError(Exception):
    """A mistake in what was asked or given: says what, where, and the way out.

    Programs print the message without a traceback and exit with 2. Mistakes of ours stay asserts. Passwords and keys in URLs
    are hidden.
    """

    def __init__(self, message: str) -> None:
        super().__init__(mask(message))


class Interrupted(Exception):
    """Work that was asked to stop and has saved its state: run again, it goes on there. Says where it stands."""


def brief(error: BaseException) -> str:
    """The first line of what an error says, or else its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def mask(text: str) -> str:
    """A text whose URLs have no name and password, and no values behind `?`, any more."""
    return _NAMED.sub(rf"\1{HIDDEN}", _URL.sub(_masked, text))


def holds_keys(value: Any) -> bool:
    """Whether a value is a text that `mask` would change."""
    return isinstance(value, str) and mask(value) != value


def _masked(url: re.Match[str]) -> str:
    return _QUERY.sub(rf"\1{HIDDEN}", _LOGIN.sub(f"{HIDDEN}@", url[0]))
