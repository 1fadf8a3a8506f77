"""Locks over HTTP. Facts: reference http-api §8 (the bodies are protobuf's JSON: camelCase or the proto's own names)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from dapr_shared.api.http.call import HttpCall, json_response
from dapr_shared.api.http.routes import Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.blocks.lock import LockBlock
    from dapr_shared.wire.http.messages import Response

Seconds = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]


class _Form(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """An unknown name may be the proto's: it sends the body through `_with_json_names`."""

    resource_id: str = ""
    lock_owner: str = ""


class _TryLock(_Form):
    expiry_in_seconds: Seconds | None = 0


class _Unlock(_Form):
    pass


_TRY_LOCK = msgspec.json.Decoder(_TryLock, strict=False)
_UNLOCK = msgspec.json.Decoder(_Unlock)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NAMES = {
    "resource_id": "resourceId",
    "lock_owner": "lockOwner",
    "expiry_in_seconds": "expiryInSeconds",
    "resourceId": "resourceId",
    "lockOwner": "lockOwner",
    "expiryInSeconds": "expiryInSeconds",
}


class LockApi:
    """Turns HTTP requests into calls of the lock block."""

    def __init__(self, block: LockBlock) -> None:
        self._block = block

    def routes(self) -> Sequence[Route]:
        return [
            Route(("POST",), "/v1.0-alpha1/lock/{store}", self.try_lock, "TryLockAlpha1", "lock", "v1alpha1"),
            Route(("POST",), "/v1.0-alpha1/unlock/{store}", self.unlock, "UnlockAlpha1", "unlock", "v1alpha1"),
        ]

    async def try_lock(self, call: HttpCall) -> Response:
        (store,) = call.params
        request = await call.json(_TRY_LOCK, _with_json_names)
        taken = await self._block.try_lock(
            call.proved, store, request.resource_id, request.lock_owner, request.expiry_in_seconds or 0
        )
        return json_response({"success": taken})

    async def unlock(self, call: HttpCall) -> Response:
        (store,) = call.params
        request = await call.json(_UNLOCK, _with_json_names)
        status = await self._block.unlock(call.proved, store, request.resource_id, request.lock_owner)
        return json_response({"status": int(status)})


def _with_json_names(data: bytes, _call: HttpCall) -> bytes:
    """The same with the proto's names in the JSON form; other names are left out, as daprd ignores them."""
    given = _OBJECT.decode(data)
    return msgspec.json.encode({_NAMES[name]: value for name, value in given.items() if name in _NAMES})
