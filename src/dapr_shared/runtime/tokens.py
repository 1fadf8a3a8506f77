"""The tokens that prove apps, each as its source says it: from a secret store, from the environment, or as a digest.

Assembly. A source whose store answers that there is no such secret, or that holds what can be no token, proves nobody. One
that cannot be read now goes on proving its app by what it held before. Nothing here keeps a token in readable form.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dapr_shared.resources.model import MetadataItem
from dapr_shared.resources.values import UnresolvedError, WithDefaultStore, resolve_item
from dapr_shared.runtime.secret_readers import SecretPlace
from dapr_shared.security.secrets import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dapr_shared.resources.model import App, TokenSource
    from dapr_shared.resources.values import ReadSecret

_NOBODY = "this token proves nobody until that is mended"


@dataclass(frozen=True, slots=True)
class Token:
    """What one source of an app holds."""

    source: TokenSource
    place: SecretPlace | None = None
    """The secret that the source refers to; `None`: it refers to none."""
    digest: bytes | None = None
    """The SHA-256 of the token; `None`: there is none, and the source proves nobody."""
    where: str = ""
    """The field, as `spec.tokens[0]`."""
    problem: str = ""
    """Why it proves nobody, or why what it held before goes on."""
    read: bool = True
    """Whether the source has said something; else `digest` is what it held before."""
    refused: bool = False
    """Whether the token is another app's, and so proves nobody here."""

    @property
    def proves(self) -> bool:
        """Whether it proves its app."""
        return self.digest is not None and not self.refused


class UnusableValueError(Exception):
    """There is no value, or one that can be no token. The message holds none of it."""

    def __init__(self, problem: str, *, answered: bool, field: str = "") -> None:
        super().__init__(problem)
        self.field = field
        """What to add to the name of the field that it is about."""
        self.answered = answered
        """Whether that is the source's answer; else it cannot be read now."""


def digests_of(tokens: Iterable[Token]) -> frozenset[bytes]:
    """Of those that prove their app."""
    return frozenset(token.digest for token in tokens if token.digest is not None and not token.refused)


def problems_of(tokens: Sequence[Token]) -> list[str]:
    """What is wrong with single tokens of an app that is served all the same."""
    found: list[str] = []
    for token in tokens:
        if token.problem and token.proves:
            found.append(f"{token.where}: {token.problem}; what it held before still proves the app")
        elif token.problem:
            found.append(f"{token.where}: {token.problem}; {_NOBODY}")
    if found and not digests_of(tokens):
        found.append("no token proves the app")
    return found


async def read_tokens(app: App, reader: ReadSecret, before: Sequence[Token]) -> tuple[list[Token], list[str]]:
    """What the sources of an app hold now, and the problems of those of which nothing is known.

    `before`: what they held when they were last read.
    """
    known = {(token.source, token.place): token.digest for token in before}
    found: list[Token] = []
    unknown: list[str] = []
    for index, source in enumerate(app.tokens):
        where = f"spec.tokens[{index}]"
        try:
            found.append(await _read(app, source, where, reader))
        except UnusableValueError as error:
            place = _place(app, source, reader)
            where += error.field
            if error.answered:
                found.append(Token(source, place, None, where, str(error)))
            elif (source, place) in known:
                found.append(Token(source, place, known[source, place], where, str(error), read=False))
            else:
                unknown.append(f"{where}: {error}")
    return found, unknown


async def read_value(app: App, item: MetadataItem, reader: ReadSecret) -> str:
    """A token, from where the item says. Raises `UnusableValueError`."""
    if item.env_ref and item.env_ref not in os.environ:
        raise UnusableValueError(f"the environment variable {item.env_ref} is not set", answered=True, field=".envRef")
    try:
        value = await resolve_item(
            item, env=os.environ, secret=reader, secret_store=app.secret_store, any_variable=True
        )
    except UnresolvedError as error:
        raise UnusableValueError(error.problem, answered=error.answered) from error
    problem = value_problem(value)
    if problem:
        raise UnusableValueError(problem, answered=True)
    return value


def value_problem(value: str) -> str:
    """Why a value can be no token; empty: it can."""
    if not value:
        return "the token is empty"
    if not value.isprintable() or not value.isascii() or value != value.strip():
        return "the token has a line end, a space at an end, or another character that no header can carry; store it without"
    return ""


async def _read(app: App, source: TokenSource, where: str, reader: ReadSecret) -> Token:
    if source.sha256:
        return Token(source, digest=bytes.fromhex(source.sha256), where=where)
    item = MetadataItem(name="token", secret_key_ref=source.secret_key_ref, env_ref=source.env_ref)
    value = await read_value(app, item, reader)
    return Token(source, _place(app, source, reader), digest(value), where)


def _place(app: App, source: TokenSource, reader: ReadSecret) -> SecretPlace | None:
    if source.secret_key_ref is None:
        return None
    store = app.secret_store or (reader.store if isinstance(reader, WithDefaultStore) else "")
    return SecretPlace(app.namespace, store, source.secret_key_ref.name)
