"""`bindings.redis`: set, get, delete and count texts in Redis or Valkey.

Last step of the request road. The request's metadata names the `key`, as it is at the server: apps that may use the
binding share its database, which should have nothing else in it.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dapr_shared.components.redis.client import RedisClient, Script
from dapr_shared.components.redis.settings import RedisSettings
from dapr_shared.contracts.bindings import BindingCapability, BindingRequest, BindingResponse, OutputBinding
from dapr_shared.contracts.component import BackendError
from dapr_shared.core.durations import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack

INCREMENT = Script(
    """
local number = redis.call('INCR', KEYS[1])
if ARGV[1] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return number
"""
)
"""KEYS: the key. ARGV: milliseconds to live, 0: unchanged. The new number."""


class RedisBinding(OutputBinding[RedisSettings]):
    """Texts in Redis."""

    settings_type = RedisSettings
    capabilities: ClassVar[frozenset[str]] = frozenset({BindingCapability.OUTPUT_BINDING})
    operations = ("create", "get", "delete", "increment")

    _client: RedisClient | None = None

    @property
    def calls_at_a_time(self) -> int:
        return self.settings.shared_connections

    def data_location(self) -> str | None:
        return self.settings.location

    async def start(self, stack: AsyncExitStack) -> None:
        client = RedisClient(self.settings, f"binding {self.context.name}")
        await client.start(stack)
        self._client = client

    async def ping(self) -> None:
        await self._open().call("PING")

    async def backend_time(self) -> float:
        return await self._open().time()

    async def invoke(self, request: BindingRequest) -> BindingResponse | None:
        client = self._open()
        key = request.metadata.get("key")
        if not key:
            raise BackendError("the metadata key is required: the key in Redis")
        milliseconds = _time_to_live(request.metadata)
        match request.operation:
            case "create":
                expiry = ("PX", milliseconds) if milliseconds else ()
                await client.call("SET", key, request.data, *expiry)
            case "get":
                remove = request.metadata.get("delete") == "true"
                found: bytes | None = await client.call("GETDEL" if remove else "GET", key, again=not remove)
                return BindingResponse(found or b"")
            case "delete":
                await client.call("DEL", key)
            case "increment":
                await client.run(INCREMENT, (key,), milliseconds, again=False)
            case _:
                raise BackendError(f"the operation {request.operation} is not one of {', '.join(self.operations)}")
        return None

    def _open(self) -> RedisClient:
        if self._client is None:
            raise BackendError(f"binding {self.context.name} is not open")
        return self._client


def _time_to_live(metadata: Mapping[str, str]) -> int:
    """Milliseconds to live that the request asks for (`ttlInSeconds` or `ttl`); 0: none. Raises `BackendError`."""
    given = next((value for name, value in metadata.items() if name.lower() in {"ttlinseconds", "ttl"}), "")
    if not given:
        return 0
    try:
        milliseconds = int(parse_duration(given.strip()) * 1000)
    except ValueError as error:
        raise BackendError(f"the metadata ttlInSeconds: {error}") from error
    if milliseconds <= 0:
        raise BackendError("the metadata ttlInSeconds must be above 0")
    return milliseconds
