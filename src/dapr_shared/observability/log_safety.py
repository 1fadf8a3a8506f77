"""What may stand in a log line: no secrets, nothing that forges a line, nothing without end.

Beside both roads: processors of `logs.py`. Values come from requests, files and backends; they are text to show, never
text to obey.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

MASK = "***"
"""What stands in the place of a secret."""

LONGEST_VALUE = 4096
"""Characters; a longer text is cut."""

LONGEST_TRACEBACK = 16384
"""Characters; of a longer one the end is kept, where the error is."""

# Made once: a union written in a call is made at every call.
_PLAIN = (bool, int, float, type(None))
_LISTS = (list, tuple, set, frozenset)
_DEEPEST = 4
_MOST_MEMBERS = 50

_SECRET_ENDINGS = (
    "token", "tokens", "password", "passwords", "passwd", "pwd", "passphrase", "secret", "secrets", "authorization",
    "apikey", "accesskey", "secretkey", "privatekey", "connectionstring", "cookie", "credential", "credentials",
)  # fmt: skip
_SEPARATORS = str.maketrans("", "", "-_. ")

# Credentials that stand inside a text: the user part of a URL, and what follows the name of a scheme or a token.
_URL_CREDENTIALS = re.compile(r"(://[^/\s:@]{0,256}):[^/\s@]{1,1024}@")
_SCHEME_CREDENTIALS = re.compile(r"\b(bearer|basic)[ ]+[A-Za-z0-9+/=._~-]{6,}", re.IGNORECASE)
# `password=x`, `"password": "x"`, `dapr-api-token: x`; not so `invalid api token: no app has it`.
_NAMED_CREDENTIALS = re.compile(
    r"((?:token|password|passwd|pwd|secret|api[_-]?key)(?:=|[\"']\s?:\s?[\"'])"
    r"|(?:dapr-api-token|authorization)[\"']?\s?[:=]\s?[\"']?)[^\s\"',;&]+",
    re.IGNORECASE,
)

# Controls, line and paragraph separators, directions that reorder what is read, and half characters.
_CONTROLS = "\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_UNSAFE = re.compile(f"[{_CONTROLS}]")
_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Whether a value of that name is a secret.

    So are `token`, `dapr-api-token`, `redisPassword` and `client_secret`; not so `secret_store` and `token_count`.
    """
    return name.lower().translate(_SEPARATORS).endswith(_SECRET_ENDINGS)


def without_credentials(text: str) -> str:
    """The text with what looks like credentials replaced."""
    if "://" in text:
        text = _URL_CREDENTIALS.sub(rf"\1:{MASK}@", text)
    if " " in text:
        text = _SCHEME_CREDENTIALS.sub(rf"\1 {MASK}", text)
    return _NAMED_CREDENTIALS.sub(rf"\1{MASK}", text) if "=" in text or ":" in text else text


def one_line(text: str) -> str:
    """The text with every character escaped that could end, hide or reorder a line."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_escaped, text)


def make_safe(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: bounded texts without secrets and controls, numbers, and short lists and mappings.

    The names of the event's own fields are the code's, those inside mappings are not.
    """
    return {key: value if key == "exception" else _safe(key, value, _DEEPEST) for key, value in event.items()}


def safe_traceback(text: str, *, prefix: str) -> str:
    """A traceback without credentials and controls; `prefix` begins each line, so that none passes for a log line."""
    if len(text) > LONGEST_TRACEBACK:
        text = "…" + text[-LONGEST_TRACEBACK:]
    return "\n".join(prefix + one_line(line) for line in without_credentials(text).rstrip("\n").split("\n"))


def _safe(name: str, value: object, depth: int) -> object:
    if isinstance(value, _PLAIN):
        return value
    if is_secret_name(name):
        return MASK
    if isinstance(value, str):
        text = value
    elif depth and isinstance(value, Mapping):
        members = islice(cast("Mapping[object, object]", value).items(), _MOST_MEMBERS)
        return {one_line(str(key)): _safe(str(key), member, depth - 1) for key, member in members}
    elif depth and isinstance(value, _LISTS):
        items = islice(cast("Iterable[object]", value), _MOST_MEMBERS)
        return [_safe(name, item, depth - 1) for item in items]
    else:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if len(text) > LONGEST_VALUE:
        text = text[:LONGEST_VALUE] + "…"
    return one_line(without_credentials(text))


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    number = ord(character)
    return _ESCAPES.get(character) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")
