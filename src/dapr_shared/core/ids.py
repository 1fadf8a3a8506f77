"""Identifiers: who an app is, and random ids."""

from __future__ import annotations

import re
import secrets
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


def random_id() -> str:
    """A random UUID (version 4) in its usual text form, from the system's random source."""
    value = bytearray(secrets.token_bytes(16))
    value[6] = (value[6] & 0x0F) | 0x40
    value[8] = (value[8] & 0x3F) | 0x80
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
