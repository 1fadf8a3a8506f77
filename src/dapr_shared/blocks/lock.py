"""The lock block: leases on names, in the store that the caller names.

Step 4 of the request road. A resource is locked under the app's own prefix, so that two apps which use one store and
one name do not meet unless the component's `keyPrefix` says so. Facts: reference http-api §8, resources §2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.lock import LockStore, TryLockRequest, UnlockRequest, UnlockStatus
from dapr_shared.core import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dapr_shared.contracts.registry import Components, Opened
    from dapr_shared.core.errors import ErrorRow
    from dapr_shared.identity.caller import Caller

SEPARATOR = "||"
API_PREFIX = "lock"


class LockBlock:
    """Locks of many apps; each reaches its own."""

    def __init__(self, components: Components) -> None:
        self._components = components

    async def try_lock(self, caller: Caller, store: str, resource: str, owner: str, expiry: int) -> bool:
        """Take a lock for `expiry` seconds, if nobody holds it.

        Raises `LOCK_EXPIRY` before the store is looked up, as daprd does, then the errors of `unlock` and `LOCK_TRY`.
        """
        if expiry <= 0:
            raise errors.LOCK_EXPIRY(store=store)
        opened = self._store(caller, store, resource, owner)
        full = full_resource(opened, caller, resource, errors.LOCK_TRY)
        try:
            return await opened.component.try_lock(TryLockRequest(full, owner, expiry))
        except BackendError as error:
            raise errors.LOCK_TRY(detail=error) from error

    async def unlock(self, caller: Caller, store: str, resource: str, owner: str) -> UnlockStatus:
        """Free a lock that this owner holds; the status says what became of it.

        Raises `LOCK_NOT_CONFIGURED`, `LOCK_RESOURCE_EMPTY`, `LOCK_OWNER_EMPTY`, `LOCK_NOT_FOUND`, `LOCK_UNLOCK`.
        """
        opened = self._store(caller, store, resource, owner)
        full = full_resource(opened, caller, resource, errors.LOCK_UNLOCK)
        try:
            return await opened.component.unlock(UnlockRequest(full, owner))
        except BackendError as error:
            raise errors.LOCK_UNLOCK(detail=error) from error

    def _store(self, caller: Caller, store: str, resource: str, owner: str) -> Opened[LockStore[Any]]:
        """The store; the checks come in daprd's order."""
        if not self._components.has(LockStore, caller.ref):
            raise errors.LOCK_NOT_CONFIGURED()
        if not resource:
            raise errors.LOCK_RESOURCE_EMPTY(store=store)
        if not owner:
            raise errors.LOCK_OWNER_EMPTY(store=store)
        # The contract stands for all its adapters, whatever their settings are.
        opened = self._components.find(cast("type[LockStore[Any]]", LockStore), caller.ref, store)
        if opened is None:
            raise errors.LOCK_NOT_FOUND(store=store)
        return opened


def resource_prefix(metadata: Mapping[str, str], name: str, app_id: str) -> str:
    """What stands before the resource, by the component's `keyPrefix`: `lock||`, and the app, the store or a text.

    `metadata`: the component's runtime metadata. `name`: the component's. Unlike that of state, `keyPrefix` has no
    strategy `namespace`: it would be a text like any other, as in daprd.
    """
    strategy = metadata.get("keyprefix", "")
    match strategy.lower():
        case "" | "appid":
            middle = app_id
        case "name":
            middle = name
        case "none":
            return API_PREFIX + SEPARATOR
        case _:
            middle = strategy
    return f"{API_PREFIX}{SEPARATOR}{middle}{SEPARATOR}"


def full_resource(opened: Opened[LockStore[Any]], caller: Caller, resource: str, row: ErrorRow) -> str:
    """The resource as it is stored. Raises `row` where a part of it would forge another one's prefix."""
    for part in (resource, opened.runtime_metadata.get("keyprefix", "")):
        if SEPARATOR in part:
            raise row(detail=f"input key/keyPrefix '{part}' can't contain '{SEPARATOR}'")
    return resource_prefix(opened.runtime_metadata, opened.name, caller.app_id) + resource
