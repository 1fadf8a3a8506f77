"""The keys of an app in a store that many apps share.

Step 4 of the request road. Facts: reference behaviours §2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dapr_shared.core import errors
from dapr_shared.core.errors import FieldViolation, Resource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dapr_shared.contracts.registry import Opened
    from dapr_shared.contracts.state import StateStore
    from dapr_shared.identity.caller import Caller

SEPARATOR = "||"


def key_prefix(metadata: Mapping[str, str], name: str, app_id: str, given_namespace: str) -> str | None:
    """What stands before `||` in the keys of an app, by the component's `keyPrefix`; `None`: no prefix, no `||`.

    `metadata`: the component's runtime metadata. `name`: the component's. `given_namespace`: empty for the default one.
    """
    text = metadata.get("keyprefix")
    if not text:
        return app_id
    match text.lower():
        case "appid":
            return app_id
        case "name":
            return name
        case "namespace":
            return f"{given_namespace}.{app_id}" if given_namespace else app_id
        case "none":
            return None
        case _:
            return text


def full_key(opened: Opened[StateStore[Any]], caller: Caller, key: str) -> str:
    """The key as it is stored (behaviours §2). Raises `STATE_ILLEGAL_KEY`."""
    if SEPARATOR in key:
        raise errors.STATE_ILLEGAL_KEY(
            key=key,
            resource=Resource("state", opened.name),
            violations=(FieldViolation(key, f"input key/keyPrefix '{key}' can't contain '||'"),),
        )
    prefix = _prefix(opened, caller)
    return key if prefix is None else f"{prefix}{SEPARATOR}{key}"


def own_key(opened: Opened[StateStore[Any]], caller: Caller, stored: str) -> str | None:
    """The opposite of `full_key`; `None` for a stored key that the caller cannot name: another app's, an actor's."""
    prefix = _prefix(opened, caller)
    if prefix is not None:
        if not stored.startswith(prefix + SEPARATOR):
            return None
        stored = stored[len(prefix) + len(SEPARATOR) :]
    return None if SEPARATOR in stored else stored


def _prefix(opened: Opened[StateStore[Any]], caller: Caller) -> str | None:
    return key_prefix(opened.runtime_metadata, opened.name, caller.app_id, caller.record.given_namespace)
