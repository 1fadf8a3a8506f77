"""`configuration.sqlite`: configuration items in one file, ours, written by operators with any SQLite tool.

Last step of the request road and first of the delivery road. For a laptop or a single node: the file is on a disk of the
machine. The table to write to is

    items (key, value, version, metadata)     `version` and `metadata` (a JSON object of texts) may be left out

and every change of it, by whatever process, is told: triggers note it in `changes` (one row a key, in the order of the
last change, deleted keys too), and the file system tells that the file has changed. Nothing is polled but once in some
seconds, in case that an event was lost. An item without a version of its own has the number of its last change.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from dapr_shared.components.sqlite.own_file import Layout, OwnFileSettings
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.configuration import (
    ConfigurationItem,
    ConfigurationStore,
    ConfigurationSubscription,
    GetConfigurationRequest,
    Handler,
    Items,
    SubscribeConfigurationRequest,
)
from dapr_shared.resources.watch import changes as file_changes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from contextlib import AsyncExitStack

    from dapr_shared.components.sqlite.cursor import Cursor
    from dapr_shared.components.sqlite.database import Database

_NOTE = "DELETE FROM changes WHERE key = {0}.key; INSERT INTO changes (key) VALUES ({0}.key);"
_NOTE_NEW, _NOTE_OLD = _NOTE.format("NEW"), _NOTE.format("OLD")
LAYOUT = Layout(
    "configuration.sqlite",
    0x44504331,
    (
        f"""
        CREATE TABLE items (
          key TEXT PRIMARY KEY, value TEXT NOT NULL, version TEXT NOT NULL DEFAULT '', metadata TEXT NOT NULL DEFAULT '{{}}'
        ) STRICT;
        CREATE TABLE changes (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE) STRICT;
        CREATE TRIGGER item_made AFTER INSERT ON items BEGIN {_NOTE_NEW} END;
        CREATE TRIGGER item_changed AFTER UPDATE ON items BEGIN {_NOTE_OLD} {_NOTE_NEW} END;
        CREATE TRIGGER item_gone AFTER DELETE ON items BEGIN {_NOTE_OLD} END;
        """,
    ),
    frozenset({"items", "changes"}),
)
LOOK = (5.0, 10.0)
"""Seconds between two looks in case that an event was lost, at random in this range."""
DEBOUNCE = 0.02
"""Seconds: changes of the file that follow each other faster are one."""
CHUNK = 500
"""Keys, or changes, that one query reads."""


class SqliteConfigurationSettings(OwnFileSettings, frozen=True, kw_only=True):
    """The settings of `configuration.sqlite`."""


class _Change(NamedTuple):
    id: int
    key: str
    item: ConfigurationItem | None


class SqliteConfigurationStore(ConfigurationStore[SqliteConfigurationSettings]):
    """Configuration in a SQLite file."""

    settings_type = SqliteConfigurationSettings

    _database: Database | None = None

    def data_location(self) -> str | None:
        return None  # apps read it and write nothing

    async def start(self, stack: AsyncExitStack) -> None:
        database = await LAYOUT.open(self.settings, stack)
        self._subscriptions: set[_Subscription] = set()
        self._looking = asyncio.Lock()
        self._told = await database.read(_last_change)
        self._database = database
        stack.callback(self._forget)
        file = self.settings.file
        watched = file_changes([file, file.with_name(f"{file.name}-wal")], debounce=DEBOUNCE)
        for title, work in (("watch the file", self._watch(watched)), ("look for changes", self._look_forever())):
            task = asyncio.create_task(work, name=f"{self.context.name}: {title}")
            stack.push_async_callback(_end, task)

    async def ping(self) -> None:
        await self._open().read(_last_change)

    async def get(self, request: GetConfigurationRequest) -> Items:
        database = self._open()
        if request.keys:
            found: dict[str, ConfigurationItem] = {}
            for start in range(0, len(request.keys), CHUNK):
                found |= await database.read(partial(_some, request.keys[start : start + CHUNK]))
            return found
        return await database.read(_all)

    async def subscribe(self, request: SubscribeConfigurationRequest, handler: Handler) -> ConfigurationSubscription:
        self._open()
        subscription = _Subscription(frozenset(request.keys), handler, self._subscriptions)
        if not self._subscriptions:  # nobody has looked: what was there before is not told
            async with self._looking:
                if not self._subscriptions:
                    self._told = await self._open().read(_last_change)
        else:
            await self._look()  # what was there before is told to the others alone
        self._subscriptions.add(subscription)
        return subscription

    # ------------------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Tell what has changed since the last look. Raises `BackendError`."""
        async with self._looking:
            while self._subscriptions:
                changed = await self._open().read(partial(_changes_since, self._told))
                if not changed:
                    return
                self._told = changed[-1].id
                items = {change.key: change.item or ConfigurationItem("") for change in changed}
                for subscription in tuple(self._subscriptions):
                    subscription.tell(items)
                if len(changed) < CHUNK:
                    return

    async def _watch(self, watched: AsyncGenerator[None]) -> None:
        async with aclosing(watched) as events:
            async for _ in events:
                with suppress(BackendError):  # the next look finds it
                    await self._look()

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(*LOOK))  # noqa: S311 - spreads load
            with suppress(BackendError):
                await self._look()

    def _open(self) -> Database:
        if self._database is None:
            raise BackendError(f"configuration store {self.context.name} is not open")
        return self._database

    def _forget(self) -> None:
        self._database = None
        self._subscriptions.clear()


class _Subscription(ConfigurationSubscription):
    """One handler and its keys."""

    def __init__(self, keys: frozenset[str], handler: Handler, running: set[_Subscription]) -> None:
        self._keys = keys
        self._handler = handler
        self._running = running

    def tell(self, items: Items) -> None:
        """Tell what it is about."""
        mine = {key: item for key, item in items.items() if key in self._keys} if self._keys else items
        if mine:
            self._handler(mine)

    async def stop(self) -> None:
        self._running.discard(self)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


_COLUMNS = "items.key, items.value, items.version, items.metadata, changes.id"
_ITEMS = f"SELECT {_COLUMNS} FROM items LEFT JOIN changes ON changes.key = items.key"  # noqa: S608 - a constant


def _all(cursor: Cursor) -> dict[str, ConfigurationItem]:
    rows = cursor.execute(f"{_ITEMS} ORDER BY items.key").fetchall()
    return {row[0]: _item(*row[1:]) for row in rows}


def _some(keys: Sequence[str], cursor: Cursor) -> dict[str, ConfigurationItem]:
    found: dict[str, ConfigurationItem] = {}
    for key in keys:
        try:
            row = cursor.execute(f"{_ITEMS} WHERE items.key = ?", (key,)).fetchone()
        except UnicodeEncodeError as error:
            raise BackendError("a key is not valid Unicode") from error
        if row is not None:
            found[key] = _item(*row[1:])
    return found


def _changes_since(told: int, cursor: Cursor) -> list[_Change]:
    rows = cursor.execute(
        "SELECT changes.id, changes.key, items.value, items.version, items.metadata "
        "FROM changes LEFT JOIN items ON items.key = changes.key WHERE changes.id > ? ORDER BY changes.id LIMIT ?",
        (told, CHUNK),
    ).fetchall()
    return [
        _Change(number, key, None if value is None else _item(value, version, metadata, number))
        for number, key, value, version, metadata in rows
    ]


def _last_change(cursor: Cursor) -> int:
    row = cursor.execute("SELECT max(id) FROM changes").fetchone()
    return 0 if row is None or row[0] is None else int(row[0])


def _item(value: str, version: str, metadata: str, number: int | None) -> ConfigurationItem:
    """`metadata` that is no JSON object of texts is shown as none: one wrong row must not hide the others."""
    try:
        decoded = msgspec.json.decode(metadata, type=dict[str, str])
    except msgspec.MsgspecError:
        decoded = {}
    return ConfigurationItem(value, version or (str(number) if number is not None else ""), decoded)
