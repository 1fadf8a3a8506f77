"""Identifiers: who an app is, and random ids."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

DEFAULT_NAMESPACE = "default"

_APP_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")


class AppRef(NamedTuple):
    """Which app: its app id and its namespace. Two apps are the same exactly if both are equal."""

    app_id: str
    namespace: str = DEFAULT_NAMESPACE

    def __str__(self) -> str:
        return f"{self.app_id}.{self.namespace}"


def app_id_problem(app_id: str) -> str | None:
    """Say what is wrong with an app id, or `None`.

    Dapr refuses dots in an app id (`app.namespace` is how an app of another namespace is named); `|` would forge the
    key prefixes `<appid>||`, and `/` paths. So: letters, digits, `-` and `_`, at most 63, ends with a letter or digit.
    """
    if not app_id:
        return "the app id is empty"
    if not _APP_ID.fullmatch(app_id):
        return (
            f"{app_id!r} is not an app id: use 1 to 63 letters, digits, '-' and '_', "
            "with a letter or digit at both ends"
        )
    return None


_DRAWN = 32
_drawn: list[str] = []
"""32 random digits for each of the next ids; none is taken twice, also by several threads."""
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_drawn.clear)
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def random_id() -> str:
    """A random UUID (version 4) in its usual text form, from the system's random source."""
    try:
        text = _drawn.pop()
    except IndexError:
        # The system is asked for many at a time: 0.3 µs an id in place of 0.8.
        digits = os.urandom(16 * _DRAWN).hex()
        _drawn.extend(digits[start : start + 32] for start in range(32, len(digits), 32))
        text = digits[:32]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:]}"
