"""`configuration.redis`: items are texts in Redis or Valkey, `value` or `value||version`.

Last step of the request road (get, subscribe) and first of the delivery road (changes). Keys are as they are at the
server, and no keys means all of the database, which should have nothing else in it: a database of more than `MAX_KEYS`
keys is an error then, where daprd reads whatever is there. A key that has another type or an empty value is no item, as
in daprd.

Changes are told by the server's keyspace notifications, on one connection for all subscriptions. They are switched on
(`notify-keyspace-events`, what was on stays on) wherever the server allows that; a server that refuses it and has them
off is an error. When the connection was lost, what has changed meanwhile is found by comparing. A cluster's
notifications come from each node for itself: there, `get` works and `subscribe` is an error.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dapr_shared.components.redis.client import RedisClient
from dapr_shared.components.redis.settings import RedisSettings
from dapr_shared.contracts.component import BackendError, BackendUnavailableError
from dapr_shared.contracts.configuration import (
    ConfigurationItem,
    ConfigurationStore,
    ConfigurationSubscription,
    GetConfigurationRequest,
    Handler,
    Items,
    SubscribeConfigurationRequest,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from contextlib import AsyncExitStack

    from dapr_shared.components.redis.client import OwnConnection

SEPARATOR = "||"
"""Between value and version."""
EVENTS = "Kg$xe"
"""The notifications that are needed: of keys; generic commands, texts, expiry, eviction."""
CHUNK = 256
"""Keys that are read in one call."""
MAX_KEYS = 10_000
"""Keys of a database that is read as a whole, at most."""
SCAN = 1_000
"""Keys that the server looks at in one step of a listing."""
PAUSES = (0.1, 5.0)
"""Seconds until the first new try after a failure, and at most; doubled with each."""
ALIVE = 15.0
"""Seconds of silence after which the connection is asked whether it lives."""


class RedisConfigurationSettings(RedisSettings, frozen=True, kw_only=True):
    """The settings of `configuration.redis`."""


class RedisConfigurationStore(ConfigurationStore[RedisConfigurationSettings]):
    """Configuration in Redis texts."""

    settings_type = RedisConfigurationSettings

    _client: RedisClient | None = None

    @property
    def calls_at_a_time(self) -> int:
        return self.settings.shared_connections

    def data_location(self) -> str | None:
        return self.settings.location

    async def start(self, stack: AsyncExitStack) -> None:
        client = RedisClient(self.settings, f"configuration store {self.context.name}")
        await client.start(stack)
        self._client = client
        self._subscriptions: set[_Subscription] = set()
        self._dirty: set[str] = set()
        self._look = asyncio.Event()
        self._listening: asyncio.Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        stack.push_async_callback(self._close)

    async def ping(self) -> None:
        await self._open().call("PING")

    async def backend_time(self) -> float:
        return await self._open().time()

    async def get(self, request: GetConfigurationRequest) -> Items:
        texts = await self._read(request.keys or await self._all_keys())
        return {key: _item(text) for key, text in texts.items() if text is not None and _item(text).value}

    async def subscribe(self, request: SubscribeConfigurationRequest, handler: Handler) -> ConfigurationSubscription:
        client = self._open()
        if client.is_cluster:
            raise BackendError("a Redis cluster tells no changes: use a single server, or one behind sentinels")
        if self._listening is None:
            self._listening = asyncio.get_running_loop().create_future()
            name = self.context.name
            self._tasks = [
                asyncio.create_task(self._listen_forever(), name=f"{name}: listen for changes"),
                asyncio.create_task(self._tell_forever(), name=f"{name}: tell changes"),
            ]
        await self._switch_on()
        try:
            async with asyncio.timeout(self.settings.dial_timeout or 5.0):
                await asyncio.shield(self._listening)
        except TimeoutError as error:
            raise BackendUnavailableError(f"Redis at {client.where} cannot be listened to now: try again") from error
        found = _Subscription(self, request.keys, handler)
        self._subscriptions.add(found)
        try:
            for key, text in (await self._read(request.keys or await self._all_keys())).items():
                found.known.setdefault(key, text)
        except BaseException:
            self._subscriptions.discard(found)
            raise
        return found

    def forget(self, subscription: _Subscription) -> None:
        """The subscription has ended."""
        self._subscriptions.discard(subscription)

    # ------------------------------------------------------------------------------------------------------------------

    def _open(self) -> RedisClient:
        if self._client is None:
            raise BackendError(f"configuration store {self.context.name} is not open")
        return self._client

    async def _all_keys(self) -> list[str]:
        client = self._open()
        found = await client.keys("*", SCAN, most=MAX_KEYS)
        if len(found) > MAX_KEYS:
            raise BackendError(
                f"the database of Redis at {client.where} has more than {MAX_KEYS} keys: name the keys that you want, or "
                "give configuration a database of its own (redisDB)"
            )
        return sorted(key.decode(errors="surrogateescape") for key in found)

    async def _read(self, keys: Collection[str]) -> dict[str, str | None]:
        """The texts under the keys; `None` where there is none, or something else."""
        client, given = self._open(), list(keys)
        found: dict[str, str | None] = {}
        for start in range(0, len(given), CHUNK):
            chunk = given[start : start + CHUNK]
            names = [key.encode(errors="surrogateescape") for key in chunk]
            if client.is_cluster:
                replies = await client.pipeline([("GET", name) for name in names])
            else:
                replies = await client.call("MGET", *names)
            for key, reply in zip(chunk, replies, strict=True):
                found[key] = reply.decode(errors="replace") if isinstance(reply, bytes) else None
        return found

    async def _switch_on(self) -> None:
        """See to it that the server tells changes. Raises `BackendError`."""
        client = self._open()
        try:
            reply: Any = await client.call("CONFIG", "GET", "notify-keyspace-events")
            on = reply[1].decode()
        except BackendError:
            on = ""
            known = False
        else:
            known = True
        if "K" in on and all(flag in on or "A" in on for flag in "g$xe"):
            return
        wanted = "".join(sorted({*on, *EVENTS}))
        try:
            await client.call("CONFIG", "SET", "notify-keyspace-events", wanted)
        except BackendError as error:
            if known:
                raise BackendError(
                    f"Redis at {client.where} tells no changes and does not allow to switch that on: set its "
                    f"notify-keyspace-events to {wanted}"
                ) from error

    async def _listen_forever(self) -> None:
        failures = 0
        while True:
            try:
                async with self._open().own_connection() as connection:
                    await self._switch_on()
                    await self._listen(connection)
            except BackendError:
                failures = 0 if self._listening is None or self._listening.done() else failures + 1
                if self._listening is not None and self._listening.done():
                    self._listening = asyncio.get_running_loop().create_future()
                delay = min(PAUSES[0] * 2.0 ** min(failures, 10), PAUSES[1])
                await asyncio.sleep(delay * random.uniform(0.75, 1.25))  # noqa: S311 - spreads load

    async def _listen(self, connection: OwnConnection) -> None:
        """Read notifications until the connection fails."""
        prefix = f"__keyspace@{self.settings.redis_db}__:"
        await connection.call("PSUBSCRIBE", f"{prefix}*")
        for subscription in self._subscriptions:  # what changed while nobody listened
            self._dirty.update(subscription.keys or subscription.known)
        if any(not subscription.keys for subscription in self._subscriptions):
            self._dirty.update(await self._all_keys())
        self._look.set()
        if self._listening is not None and not self._listening.done():
            self._listening.set_result(None)
        pinging = asyncio.create_task(_ping_forever(connection), name=f"{self.context.name}: ask whether it lives")
        try:
            while True:
                async with asyncio.timeout(ALIVE):
                    message = await connection.listen()
                if message[0] == b"pmessage":
                    key = message[2].decode(errors="surrogateescape").removeprefix(prefix)
                    if any(not one.keys or key in one.keys for one in self._subscriptions):
                        self._dirty.add(key)
                        self._look.set()
        except TimeoutError as error:
            raise BackendUnavailableError("the connection is silent") from error
        finally:
            pinging.cancel()
            await asyncio.wait([pinging])

    async def _tell_forever(self) -> None:
        while True:
            await self._look.wait()
            self._look.clear()
            keys, self._dirty = self._dirty, set()
            try:
                texts = await self._read(keys)
            except BackendError:
                self._dirty |= keys
                self._look.set()
                await asyncio.sleep(PAUSES[0])
                continue
            for subscription in tuple(self._subscriptions):
                subscription.tell(texts)

    async def _close(self) -> None:
        self._client = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for subscription in tuple(self._subscriptions):
            await subscription.stop()
        if self._listening is not None and not self._listening.done():
            self._listening.cancel()


async def _ping_forever(connection: OwnConnection) -> None:
    with suppress(BackendError):  # whoever listens sees that it is gone
        while True:
            await asyncio.sleep(ALIVE / 3)
            await connection.send("PING")


class _Subscription(ConfigurationSubscription):
    """One subscription, and what it was last told."""

    def __init__(self, store: RedisConfigurationStore, keys: Iterable[str], handler: Handler) -> None:
        self.keys = frozenset(keys)
        self.known: dict[str, str | None] = {}
        self._store = store
        self._handler = handler

    def tell(self, texts: dict[str, str | None]) -> None:
        """Tell what is new of these."""
        changed: dict[str, ConfigurationItem] = {}
        for key, text in texts.items():
            if (self.keys and key not in self.keys) or self.known.get(key) == text:
                continue
            if text is None and not self.keys:
                self.known.pop(key, None)
            else:
                self.known[key] = text
            changed[key] = ConfigurationItem("") if text is None else _item(text)
        if changed:
            self._handler(changed)

    async def stop(self) -> None:
        self._store.forget(self)


def _item(text: str) -> ConfigurationItem:
    value, _, version = text.partition(SEPARATOR)
    return ConfigurationItem(value, version.partition(SEPARATOR)[0])
