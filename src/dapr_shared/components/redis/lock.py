"""`lock.redis`: locks in one Redis or Valkey, in daprd's form.

Last step of the request road. A lock is a text under the resource's name, the owner, that expires. It is as good as
the one server: a failover may lose a lock that the new primary did not have yet, so that two owners hold it. Hence a
cluster is refused, and a server with replicas unless `failover` says that sentinels are asked, as in daprd.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dapr_shared.components.redis.client import RedisClient, Script
from dapr_shared.components.redis.settings import RedisSettings
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.lock import LockStore, TryLockRequest, UnlockRequest, UnlockStatus
from dapr_shared.contracts.settings import SettingError

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

UNLOCK = Script(
    """
local owner = redis.call('GET', KEYS[1])
if not owner then return 1 end
if owner ~= ARGV[1] then return 2 end
redis.call('DEL', KEYS[1])
return 0
"""
)
"""KEYS: the resource. ARGV: the owner. The number of an `UnlockStatus`."""


class RedisLockSettings(RedisSettings, frozen=True, kw_only=True):
    """The settings of `lock.redis`."""

    def __post_init__(self) -> None:
        """Refuse a cluster. Raises `SettingError`."""
        super().__post_init__()
        if self.redis_type == "cluster":
            raise SettingError("redisType", "must be node: a lock in a cluster is none")

    @property
    def default_min_retry(self) -> float:
        """2 s, which the longest time before a retry then limits, as in daprd."""
        return 2.0


class RedisLockStore(LockStore[RedisLockSettings]):
    """Locks in one Redis."""

    settings_type = RedisLockSettings

    _client: RedisClient | None = None

    def data_location(self) -> str | None:
        return self.settings.location

    async def start(self, stack: AsyncExitStack) -> None:
        client = RedisClient(self.settings, f"lock store {self.context.name}")
        await client.start(stack)
        about: bytes = await client.call("INFO", "replication")
        replicas = re.search(rb"connected_slaves:([0-9]+)", about)
        if replicas and int(replicas[1]) and not self.settings.failover:
            raise BackendError(
                f"Redis at {client.where} has replicas, and a lock may be lost when one takes over: use a server of its "
                "own for locks, or failover with sentinels"
            )
        self._client = client

    async def ping(self) -> None:
        await self._open().call("PING")

    async def backend_time(self) -> float:
        return await self._open().time()

    async def try_lock(self, request: TryLockRequest) -> bool:
        command = ("SET", request.resource, request.owner, "EX", request.expiry, "NX")
        return await self._open().call(*command, again=False) is not None

    async def unlock(self, request: UnlockRequest) -> UnlockStatus:
        return UnlockStatus(await self._open().run(UNLOCK, (request.resource,), request.owner, again=False))

    def _open(self) -> RedisClient:
        if self._client is None:
            raise BackendError(f"lock store {self.context.name} is not open")
        return self._client
