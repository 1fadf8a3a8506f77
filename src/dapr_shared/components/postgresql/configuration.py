"""`configuration.postgresql`: items are rows of a table with the columns key, value, version and metadata.

Last step of the request road (get, subscribe) and first of the delivery road (changes). The table is the operator's and
is never written here; of several rows of one key the one with the highest numeric version counts.

Changes are told by NOTIFY from a trigger that the operator writes (reference components §7), on one connection for all
subscriptions. A notification says that something has changed; what, is read from the table, so that a deleted row, an
older version that is inserted late and a notification that got lost with the connection all end in what the table holds.
"""
# ruff: noqa: D102, S608 - the contract says what its methods promise; the name of the table is checked

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec

from dapr_shared.components.postgresql.client import Client
from dapr_shared.components.postgresql.errors import translate
from dapr_shared.components.postgresql.settings import PostgresSettings, check_table
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
from dapr_shared.contracts.settings import Setting, SettingError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from contextlib import AsyncExitStack

    import asyncpg

    from dapr_shared.components.postgresql.client import Connection

MAX_ITEMS = 10_000
"""Most rows that are read at once: without keys, all of the table."""
CHUNK = 500
"""Keys of one look for changes. All that subscriptions name together may be more than `MAX_ITEMS`."""
PAUSES = (0.1, 5.0)
"""Seconds until the first new try after the connection was lost, and at most; doubled with each."""
ALIVE = 15.0
"""Seconds of silence after which the connection is asked whether it lives."""
CHANNEL_KEY = "pgnotifychannel"

_CHANNEL = re.compile(r"[a-z0-9./_]{1,63}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


class TooManyItemsError(BackendError):
    """More rows than are read at once."""


class PostgresConfigurationSettings(PostgresSettings, frozen=True, kw_only=True):
    """The settings of `configuration.postgresql`."""

    table: Annotated[
        str, Setting("Table of the items, `table` or `schema.table`; it must exist.", example="configtable")
    ]
    notify_channel: Annotated[
        str,
        Setting(
            "Channel that the trigger of the table notifies; without it a subscription names it as `pgNotifyChannel`.",
            aliases=("pgNotifyChannel",),
            example="config",
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Check the names. Raises `SettingError`."""
        super().__post_init__()
        check_table("table", self.table)
        if self.notify_channel and not _CHANNEL.fullmatch(self.notify_channel):
            raise SettingError("notifyChannel", "must be up to 63 lower-case letters, digits, '.', '/' and '_'")


class PostgresConfigurationStore(ConfigurationStore[PostgresConfigurationSettings]):
    """Configuration in a table of PostgreSQL."""

    settings_type = PostgresConfigurationSettings

    _client: Client | None = None

    @property
    def calls_at_a_time(self) -> int:
        return self.settings.connections

    def data_location(self) -> str | None:
        return f"{self.settings.place}#{self.settings.table.lower()}"

    async def start(self, stack: AsyncExitStack) -> None:
        client = Client(self.settings)
        await client.start(stack, self._wait_for)
        self._subscriptions: set[_Subscription] = set()
        self._channels: dict[str, asyncio.Future[None]] = {}
        self._users: Counter[str] = Counter()
        """How many subscriptions each channel has."""
        self._dirty: set[str] = set()
        self._all_dirty = False
        self._heard = 0
        self._look = asyncio.Event()
        self._relisten = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        stack.push_async_callback(self._close)
        self._client = client
        if await client.value("SELECT to_regclass($1)::text", self.settings.table) is None:
            raise BackendError(f"the table {self.settings.table} does not exist: create it, see the documentation")
        await self._read((), limit=1)

    async def ping(self) -> None:
        await self._open().value("SELECT 1")

    async def backend_time(self) -> float:
        return await self._open().time()

    async def get(self, request: GetConfigurationRequest) -> Items:
        return await self._read(request.keys)

    async def subscribe(self, request: SubscribeConfigurationRequest, handler: Handler) -> ConfigurationSubscription:
        channel = self.settings.notify_channel or next(
            (value for name, value in request.metadata.items() if name.lower() == CHANNEL_KEY), ""
        )
        if not _CHANNEL.fullmatch(channel):
            raise BackendError(
                "a subscription needs the setting notifyChannel, or the metadata pgNotifyChannel: up to 63 lower-case "
                "letters, digits, '.', '/' and '_'"
            )
        self._users[channel] += 1
        try:
            await self._listen_to(channel)
            heard = self._heard
            found = _Subscription(self, channel, request.keys, handler, await self._read(request.keys))
        except BaseException:
            self._leave(channel)
            raise
        self._subscriptions.add(found)
        if heard != self._heard:  # what was told while the items were read was not told to this one
            self._all_dirty = True
            self._look.set()
        return found

    def forget(self, subscription: _Subscription) -> None:
        """The subscription has ended."""
        self._subscriptions.discard(subscription)
        self._leave(subscription.channel)

    def _leave(self, channel: str) -> None:
        """One subscription needs the channel no more; without any it is not listened to. Apps may name channels."""
        self._users[channel] -= 1
        if self._users[channel] <= 0:
            del self._users[channel]
            self._channels.pop(channel, None)
            self._relisten.set()

    # Reading ---------------------------------------------------------------------------------------------------------

    def _wait_for(self, what: str) -> None:
        self.waits_for = what

    def _open(self) -> Client:
        if self._client is None:
            raise BackendError(f"configuration store {self.context.name} is not open")
        return self._client

    async def _read(self, keys: Collection[str], limit: int = MAX_ITEMS + 1) -> dict[str, ConfigurationItem]:
        """The items of these keys, or all."""
        columns = "key::text, value::text, version::text, metadata::text"
        condition = " WHERE key = ANY($1::text[])" if keys else ""
        sql = f"SELECT {columns} FROM {self.settings.table}{condition} LIMIT {limit}"
        values = [list(keys)] if keys else []
        rows = await self._open().read(lambda connection: connection.fetch(sql, *values))
        if len(rows) > MAX_ITEMS:
            raise TooManyItemsError(
                f"the table {self.settings.table} has more than {MAX_ITEMS} rows for this: name fewer keys"
            )
        items: dict[str, ConfigurationItem] = {}
        for row in rows:
            key, item = _item(row)
            if key not in items or _number(item.version) > _number(items[key].version):
                items[key] = item
        return items

    # Telling changes -------------------------------------------------------------------------------------------------

    async def _listen_to(self, channel: str) -> None:
        """Return when the server tells this channel's notifications. Raises `BackendError`."""
        if not self._tasks:
            name = self.context.name
            self._tasks = [
                asyncio.create_task(self._listen_forever(), name=f"{name}: listen for changes"),
                asyncio.create_task(self._tell_forever(), name=f"{name}: tell changes"),
            ]
        if channel not in self._channels:
            self._channels[channel] = asyncio.get_running_loop().create_future()
            self._relisten.set()
        try:
            async with asyncio.timeout(self.settings.timeout):
                await asyncio.shield(self._channels[channel])
        except TimeoutError as error:
            raise BackendUnavailableError(
                f"PostgreSQL at {self._open().address} cannot be listened to now: try again"
            ) from error

    async def _listen_forever(self) -> None:
        pause = PAUSES[0]
        while True:
            connection: Connection | None = None
            try:
                connection = await self._open().connect()
                await self._listen(connection)
            except Exception as error:  # noqa: BLE001 - whatever it was: the next try will do, or tell
                problem = translate(error, self._open().address, self.settings.timeout)
                self.waits_for = str(problem)
            finally:
                if connection is not None:
                    pause = PAUSES[0]
                    connection.terminate()
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSES[1])

    async def _listen(self, connection: Connection) -> None:
        """Listen until the connection is lost."""
        connection.add_termination_listener(lambda _: self._relisten.set())
        listening: set[str] = set()
        self._relisten.set()
        while not connection.is_closed():
            if self._relisten.is_set():
                self._relisten.clear()
                for channel in listening - self._channels.keys():
                    async with asyncio.timeout(self.settings.timeout):
                        await connection.remove_listener(channel, self._notified)
                    listening.discard(channel)
                for channel in list(self._channels):
                    if channel not in listening:
                        async with asyncio.timeout(self.settings.timeout):
                            await connection.add_listener(channel, self._notified)
                        listening.add(channel)
                        self._all_dirty = True  # what changed while nobody listened
                        self._look.set()
                    waiting = self._channels.get(channel)  # `None`: left meanwhile
                    if waiting is not None and not waiting.done():
                        waiting.set_result(None)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(ALIVE):
                    await self._relisten.wait()
                continue
            async with asyncio.timeout(self.settings.timeout):
                await connection.execute("SELECT 1")

    def _notified(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        """A notification: it names the key, or everything is looked at."""
        self._heard += 1
        key = _key_of(str(payload))
        if key is None:
            self._all_dirty = True
        else:
            self._dirty.add(key)
        self._look.set()

    async def _tell_forever(self) -> None:
        pause = PAUSES[0]
        while True:
            await self._look.wait()
            self._look.clear()
            dirty, self._dirty = self._dirty, set()
            everything, self._all_dirty = self._all_dirty or len(dirty) > MAX_ITEMS, False
            try:
                await self._tell(None if everything else dirty)
                pause = PAUSES[0]
            except BackendError:
                self._dirty |= dirty
                self._all_dirty |= everything
                self._look.set()
                await asyncio.sleep(pause)
                pause = min(pause * 2, PAUSES[1])

    async def _tell(self, dirty: set[str] | None) -> None:
        """Read what may have changed (`None`: all) and tell each subscription what is new to it."""
        subscriptions = list(self._subscriptions)
        if not subscriptions:
            return
        wanted = {key for subscription in subscriptions for key in subscription.keys} if dirty is None else dirty
        items: dict[str, ConfigurationItem] = {}
        named = sorted(wanted)
        for start in range(0, len(named), CHUNK):
            items |= await self._read(named[start : start + CHUNK])
        everything: dict[str, ConfigurationItem] | None = None
        if dirty is None and not all(subscription.keys for subscription in subscriptions):
            try:
                everything = await self._read(())
            except TooManyItemsError as error:  # no news for those that want all; the others are told theirs
                self.waits_for = str(error)
        for subscription in subscriptions:
            if dirty is not None or subscription.keys:
                subscription.compare(named if dirty is not None else subscription.keys, items)
            elif everything is not None:
                subscription.compare(everything.keys() | subscription.known.keys(), everything)

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._subscriptions.clear()


class _Subscription(ConfigurationSubscription):
    def __init__(
        self,
        store: PostgresConfigurationStore,
        channel: str,
        keys: tuple[str, ...],
        handler: Handler,
        known: dict[str, ConfigurationItem],
    ) -> None:
        self._store = store
        self._handler = handler
        self._stopped = False
        self.channel = channel
        self.keys = frozenset(keys)
        self.known = known

    def compare(self, keys: Collection[str], items: Mapping[str, ConfigurationItem]) -> None:
        """Tell what is new under these keys."""
        if self._stopped:
            return
        news: dict[str, ConfigurationItem] = {}
        for key in keys:
            if self.keys and key not in self.keys:
                continue
            item, before = items.get(key), self.known.get(key)
            if item == before:
                continue
            news[key] = ConfigurationItem("") if item is None else item
            if item is None:
                self.known.pop(key)
            else:
                self.known[key] = item
        if news:
            self._handler(news)

    async def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        self._store.forget(self)


def _item(row: asyncpg.Record) -> tuple[str, ConfigurationItem]:
    key, value, version, metadata = row
    try:
        found = msgspec.json.decode(metadata or "{}")
    except msgspec.DecodeError as error:
        raise BackendError(f"the metadata of the item {key} is no JSON") from error
    texts: dict[str, str] = {}
    if isinstance(found, dict):
        for name, each in cast("dict[str, object]", found).items():
            texts[name] = each if isinstance(each, str) else msgspec.json.encode(each).decode()
    return key, ConfigurationItem(value or "", version or "", texts)


def _number(version: str) -> int:
    return int(version) if _NUMBER.fullmatch(version) else -1


def _key_of(payload: str) -> str | None:
    """The key in `{"data": {"key": …}}`, names in any case; `None` where it is not there."""
    try:
        found = msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return None
    data: object = cast("dict[str, object]", found).get("data") if isinstance(found, dict) else None
    if not isinstance(data, dict):
        return None
    for name, value in cast("dict[str, object]", data).items():
        # PostgreSQL has no NUL in its texts, and would refuse it with all other keys beside it.
        if name.lower() == "key" and isinstance(value, str) and "\0" not in value:
            return value
    return None
