"""Tokens that somebody would guess, told from their digests.

Assembly, beside both roads: for `doctor` and `validate`. A token is only compared by its SHA-256 with those of words that
people write when they mean to change them later; no token is kept or told.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

SHORTEST = 16
"""Characters that a token should have at least; `dapr-shared token new` makes 43."""
_WORDS = (
    "", "0", "1", "123", "1234", "12345", "123456", "12345678", "123456789", "1234567890", "a", "abc", "abc123", "admin",
    "api-token", "api_token", "apitoken", "change-me", "change_me", "changeit", "changeme", "dapr", "dapr-api-token",
    "dapr-token", "daprtoken", "default", "demo", "dev", "example", "foo", "guest", "hello", "key", "letmein", "local",
    "my-token", "mytoken", "none", "null", "p4ssw0rd", "pass", "passw0rd", "password", "qwerty", "root", "s3", "s3cr3t",
    "secret", "test", "test-token", "testing", "testtoken", "todo", "token", "token1", "token123", "true", "x", "xxx",
)  # fmt: skip
_SUFFIXES = (
    "",
    "-token",
    "_token",
    "token",
    "-secret",
    "_secret",
    "secret",
    "-api-token",
    "-key",
    "-password",
    "123",
    "1",
)


def is_weak(digest: bytes, app_id: str) -> bool:
    """Whether the token of this SHA-256 is a word that is guessed first, or made of the app's id alone."""
    return digest in _of_words() or digest in _of_app(app_id)


@lru_cache(maxsize=1)
def _of_words() -> frozenset[bytes]:
    spelled = {spelling for word in _WORDS for spelling in (word, word.upper(), word.capitalize())}
    return frozenset(sha256(word.encode()).digest() for word in spelled)


@lru_cache(maxsize=1024)
def _of_app(app_id: str) -> frozenset[bytes]:
    names = {app_id, app_id.lower(), app_id.upper()}
    return frozenset(sha256(f"{name}{suffix}".encode()).digest() for name in names for suffix in _SUFFIXES)
