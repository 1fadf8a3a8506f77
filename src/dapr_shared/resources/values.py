"""From a named value to its text: written out, from a secret store, or from the environment; then its templates.

Before both roads: the runtime resolves a resource's values before it opens what the resource describes. Source of every
rule: reference resources §1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from dapr_shared.core.ids import random_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dapr_shared.resources.model import MetadataItem

ENV_KEYS = "DAPR_ENV_KEYS"
"""The variable that lists, between spaces, the only variables an `envRef` may name. Unset or empty: all may."""
_TEMPLATE = re.compile(r"\{(?:uuid|podName|namespace|appID)\}")


class SecretError(Exception):
    """What the reader of secrets raises: the store is not there or cannot be read. The message holds no secret."""


class UnusableSecretError(SecretError):
    """The store has answered, and its secret is none that a resource may refer to."""


class UnresolvedError(Exception):
    """A value that cannot be had now."""

    def __init__(self, item: str, store: str, problem: str, *, answered: bool = False) -> None:
        super().__init__(f"{item}: {problem}")
        self.item = item
        """Name of the value."""
        self.store = store
        """The secret store that it waits for; empty: no store."""
        self.problem = problem
        self.answered = answered
        """Whether the store has said that there is no such value; else it has said nothing, or there is none."""


class TemplateError(ValueError):
    """A text uses a template that has no value here."""


class ReadSecret(Protocol):
    """Reads one key of one secret."""

    async def __call__(self, store: str, name: str, key: str, /) -> str | None:
        """The value; `None`: the store has answered that there is no such secret or key. Raises `SecretError`."""
        ...


class WithDefaultStore:
    """A reader that also says where a `secretKeyRef` is read whose resource names no store: in a cluster there is one."""

    def __init__(self, read: ReadSecret, store: str) -> None:
        self._read = read
        self.store = store

    async def __call__(self, store: str, name: str, key: str, /) -> str | None:
        """See `ReadSecret`."""
        return await self._read(store, name, key)


def _no_warning(_item: str, _problem: str) -> None:
    """For callers without a place for warnings."""


async def resolve(
    items: Iterable[MetadataItem],
    *,
    env: Mapping[str, str],
    secret: ReadSecret,
    secret_store: str = "",
    warn: Callable[[str, str], None] = _no_warning,
) -> dict[str, str]:
    """The texts of all items by name; of two items with one name the last counts. Templates stay as they are.

    An `envRef` counts where there is no value; a secret goes before a value. A variable that may not be read, or is
    not set, gives an empty text and a warning (item, problem). A secret that is absent or empty leaves the value that
    stands beside it; without one Dapr goes on with an empty text, here it is an error: an empty password is none.

    `secret_store` is the resource's own, or the platform's default. Raises `UnresolvedError`.
    """
    values: dict[str, str] = {}
    for item in items:
        values[item.name] = await resolve_item(item, env=env, secret=secret, secret_store=secret_store, warn=warn)
    return values


async def resolve_item(
    item: MetadataItem,
    *,
    env: Mapping[str, str],
    secret: ReadSecret,
    secret_store: str = "",
    warn: Callable[[str, str], None] = _no_warning,
    any_variable: bool = False,
) -> str:
    """The text of one item, as `resolve` says. `any_variable`: an App's `envRef` may name any variable."""
    if item.value is None and item.env_ref:
        if not any_variable and not env_ref_allowed(item.env_ref, env):
            warn(item.name, f"the environment variable {item.env_ref} is not open to resources; the value is empty")
            return ""
        if item.env_ref not in env:
            warn(item.name, f"the environment variable {item.env_ref} is not set; the value is empty")
        return env.get(item.env_ref, "")
    if item.secret_key_ref is None:
        return item.value or ""
    reference = item.secret_key_ref
    if not secret_store and isinstance(secret, WithDefaultStore):
        secret_store = secret.store
    if not secret_store:
        raise UnresolvedError(item.name, "", "has a secretKeyRef, but the resource names no store in auth.secretStore")
    try:
        found = await secret(secret_store, reference.name, reference.effective_key)
    except SecretError as error:
        answered = isinstance(error, UnusableSecretError)
        raise UnresolvedError(item.name, secret_store, str(error), answered=answered) from error
    if found:
        return found
    if item.value is None:
        what = f"the secret {reference.name} of the store {secret_store}"
        problem = f"{what} has no value under the key {reference.effective_key}"
        raise UnresolvedError(item.name, secret_store, problem, answered=True)
    return item.value


def env_ref_allowed(name: str, env: Mapping[str, str]) -> bool:
    """Whether a component's `envRef` may name the variable: not the tokens and settings of the instance itself."""
    upper = name.upper()
    if not upper or upper == "APP_API_TOKEN" or upper.startswith("DAPR_") or " " in upper:
        return False
    allowed = env.get(ENV_KEYS, "").split()
    return not allowed or upper in allowed


def render_templates(text: str, *, app_id: str, namespace: str, pod_name: str = "") -> str:
    """The text with its templates filled in.

    `{uuid}` is a new random UUID each time it occurs, `{podName}` the environment variable POD_NAME, `{appID}` the app
    id, and `{namespace}`, as in Dapr, `<namespace>.<app id>`. Raises `TemplateError` for `{podName}` without a name.
    """

    def value(match: re.Match[str]) -> str:
        match match[0]:
            case "{uuid}":
                return random_id()
            case "{namespace}":
                return f"{namespace}.{app_id}"
            case "{appID}":
                return app_id
            case _:
                if not pod_name:
                    raise TemplateError("uses {podName}, but the environment variable POD_NAME is not set")
                return pod_name

    return _TEMPLATE.sub(value, text) if "{" in text else text


def needs_app(text: str) -> bool:
    """Whether the text differs from app to app (`{appID}` or `{namespace}`)."""
    return "{appID}" in text or "{namespace}" in text
