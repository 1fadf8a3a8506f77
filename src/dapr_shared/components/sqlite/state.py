"""`state.sqlite`: state in one SQLite file, in daprd's layout.

Last step of the request road. A file written by daprd can be read and written here and the other way round, also by
both at the same time: the tables, the forms of time (`YYYY-MM-DD HH:MM:SS`, UTC, by the database's clock, hence whole
seconds), the etags (random UUIDs) and the migration level are daprd's. JSON is kept as text, other values as base64
with a mark.

What differs from daprd, on purpose: expired values are removed every hour unless told otherwise (daprd's
documentation says so, its code never does); a delete with the etag of an expired value is a mismatch; missing
directories are made; patterns of keys are case-sensitive (app ids are, and one app must not see another's keys); a
database in memory belongs to its component alone.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import asyncio
import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeVar, cast

from dapr_shared.components.sqlite.database import Database, DatabaseOptions
from dapr_shared.components.sqlite.location import parse_location
from dapr_shared.components.sqlite.statements import Statements, check_layout, glob_of_like, migrate
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.settings import Kind, Setting, SettingError, Settings
from dapr_shared.contracts.state import (
    Concurrency,
    DeleteRequest,
    EtagMismatchError,
    GetRequest,
    KeysPage,
    Operation,
    SetRequest,
    StateCapability,
    StateStore,
    StateValue,
)
from dapr_shared.core.ids import random_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dapr_shared.components.sqlite.cursor import Cursor

CHUNK = 256
"""Keys of a bulk call that are done in one go; other calls may come in between."""
SCAN = 1_000
"""Rows that one step of the cleanup looks at."""
ALL_KEYS = 2**62
"""The limit that is none."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9_]+")
_NO_METADATA: Mapping[str, str] = {}
Q = TypeVar("Q")


class SqliteStateSettings(Settings, frozen=True, kw_only=True):
    """The settings of `state.sqlite`. All but the last two are daprd's."""

    connection_string: Annotated[
        str,
        Setting(
            "Path of the database file, a file: URI, or :memory:; URI parameters after '?'.",
            aliases=("url",),
            example="data/state.db",
        ),
    ]
    table_name: Annotated[str, Setting("Table of the values: letters, digits and '_'.")] = "state"
    metadata_table_name: Annotated[
        str, Setting("Table of the migration level and the last cleanup; one for each tableName in the file.")
    ] = "metadata"
    timeout: Annotated[
        float,
        Setting(
            "How long a call may take.",
            Kind.DURATION,
            aliases=("timeoutInSeconds",),
            unit="seconds",
            minimum=1,
            example="20s",
        ),
    ] = 20.0
    busy_timeout: Annotated[
        float,
        Setting(
            "How long to wait for another process's lock; 0: not at all.", Kind.DURATION, unit="seconds", example="2s"
        ),
    ] = 2.0
    disable_wal: Annotated[
        bool,
        Setting(
            "Keep a rollback journal instead of a write-ahead log: slower; needed on network file systems.",
            Kind.BOOLEAN,
            name="disableWAL",
        ),
    ] = False
    cleanup_interval: Annotated[
        float,
        Setting(
            "Time between removals of expired values; 0 or less: never.",
            Kind.DURATION,
            aliases=("cleanupIntervalInSeconds",),
            unit="seconds",
            example="1h",
        ),
    ] = 3600.0
    synchronous: Annotated[
        Literal["full", "normal"],
        Setting(
            "full: a saved value survives a killed process and lost power. normal: lost power may take the last values, "
            "and saving costs less; a killed process takes none in either. With disableWAL always full.",
            choices=("full", "normal"),
        ),
    ] = "full"
    exclusive: Annotated[
        bool,
        Setting("Refuse a file that another instance holds in the same way (by a lock on <file>.lock).", Kind.BOOLEAN),
    ] = False

    def __post_init__(self) -> None:
        """Check what no single annotation says. Raises `SettingError`."""
        parse_location(self.connection_string)
        for name, value in (("tableName", self.table_name), ("metadataTableName", self.metadata_table_name)):
            if not _IDENTIFIER.fullmatch(value):
                raise SettingError(name, f"must be letters, digits and '_', found {value!r}")
        if self.table_name.lower() == self.metadata_table_name.lower():
            raise SettingError("metadataTableName", "must not be the table of tableName")


class SqliteStateStore(StateStore[SqliteStateSettings]):
    """State in a SQLite file."""

    settings_type = SqliteStateSettings
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {
            StateCapability.ETAG,
            StateCapability.TRANSACTIONAL,
            StateCapability.TTL,
            StateCapability.DELETE_WITH_PREFIX,
            StateCapability.KEYS_LIKE,
        },
    )

    _database: Database | None = None

    def data_location(self) -> str | None:
        path = parse_location(self.settings.connection_string).path
        if path is None:
            return None
        return f"sqlite:{path.resolve()}#{self.settings.table_name.lower()}"  # SQLite's names of tables ignore case

    async def start(self, stack: AsyncExitStack) -> None:
        settings = self.settings
        location = parse_location(settings.connection_string)
        table, metadata_table = settings.table_name, settings.metadata_table_name
        self._sql = Statements.of(table, metadata_table)
        database = Database(
            DatabaseOptions(
                location=location,
                timeout=settings.timeout,
                busy_timeout=settings.busy_timeout,
                wal=not settings.disable_wal,
                synchronous=settings.synchronous,
                exclusive=settings.exclusive,
            ),
        )
        await database.start(
            stack,
            migrate=partial(migrate, table=table, metadata_table=metadata_table),
            check=partial(check_layout, table=table),
        )
        self._database = database
        if settings.cleanup_interval > 0 and not location.read_only:
            cleaner = asyncio.create_task(self._clean_forever(), name=f"{self.context.name}: remove expired state")
            stack.push_async_callback(_end, cleaner)

    async def ping(self) -> None:
        await self._open().read(_ping)

    async def get(self, request: GetRequest) -> StateValue | None:
        return await self._open().read(partial(self._get, request.key))

    async def bulk_get(
        self, requests: Sequence[GetRequest], parallelism: int = 0
    ) -> list[StateValue | BackendError | None]:
        del parallelism  # one thread reads
        answers: list[StateValue | BackendError | None] = []
        for chunk in _chunks(requests):
            answers += await self._open().read(partial(_each, self._get, [request.key for request in chunk]))
        return answers

    async def set(self, request: SetRequest) -> None:
        await self._open().write(partial(self._set, request))

    async def bulk_set(self, requests: Sequence[SetRequest]) -> None:
        await self._bulk_write(self._set, requests)

    async def delete(self, request: DeleteRequest) -> None:
        await self._open().write(partial(self._delete, request))

    async def bulk_delete(self, requests: Sequence[DeleteRequest]) -> None:
        await self._bulk_write(self._delete, requests)

    async def transact(self, operations: Sequence[Operation], metadata: Mapping[str, str]) -> None:
        del metadata
        if operations:
            await self._open().write(partial(self._transact, operations), atomic=len(operations) > 1)

    async def delete_with_prefix(self, prefix: str) -> int:
        return await self._open().write(partial(self._delete_with_prefix, prefix), atomic=True)

    async def keys_like(self, pattern: str, page_size: int | None = None, token: str | None = None) -> KeysPage:
        if token and not token.isdecimal():
            raise BackendError("the continuation token is not one of this store's")
        limit = ALL_KEYS if page_size is None else page_size
        found = await self._open().read(partial(self._keys, glob_of_like(pattern), int(token or 0), limit))
        return KeysPage(
            tuple(key for _, key in found), str(found[-1][0]) if found and len(found) == page_size else None
        )

    async def clean(self) -> int:
        """Remove the expired values, unless another process did so within the interval. Returns how many."""
        database = self._open()
        since = int(self.settings.cleanup_interval * 1000) - 100  # a little slack, as daprd allows
        if not await database.write(partial(_changed, self._sql.claim_cleanup, (since,))):
            return 0
        removed = 0
        row: int | None = 0
        while row is not None:
            row, expired = await database.read(partial(self._scan, row))
            if expired:
                removed += await database.write(partial(self._remove_expired, expired))
        return removed

    # In the database's threads -------------------------------------------------------------------------------------

    def _get(self, key: str, cursor: Cursor) -> StateValue | None:
        row = cursor.execute(self._sql.get, (key,)).fetchone()
        if row is None:
            return None
        data: bytes
        data, is_binary, etag, expires = row
        if is_binary:
            try:
                data = a2b_base64(data)
            except Base64Error as error:
                raise BackendError("the stored value is marked as binary and is not base64") from error
        metadata = _NO_METADATA if expires is None else {"ttlExpireTime": rfc3339(expires)}
        return StateValue(data, etag, metadata, is_json=not is_binary)

    def _set(self, request: SetRequest, cursor: Cursor) -> None:
        key, value, binary = request.key, request.value, not request.is_json
        if binary:
            value = b2a_base64(value, newline=False)
        expiry = f"+{request.ttl} seconds" if request.ttl is not None and request.ttl > 0 else None
        etag = random_id()
        if request.etag:
            cursor.execute(self._sql.replace, (value, int(binary), etag, expiry, key, request.etag))
            if not cursor.connection.changes():
                raise EtagMismatchError("there is no value with this etag")
        elif request.concurrency is Concurrency.FIRST_WRITE:
            cursor.execute(self._sql.insert, (key, value, int(binary), etag, expiry))
            if not cursor.connection.changes():
                raise EtagMismatchError("the key exists and the first write wins")
        else:
            cursor.execute(self._sql.put, (key, value, int(binary), etag, expiry))

    def _delete(self, request: DeleteRequest, cursor: Cursor) -> None:
        if not request.etag:
            cursor.execute(self._sql.delete, (request.key,))
            return
        cursor.execute(self._sql.delete_etag, (request.key, request.etag))
        if not cursor.connection.changes():
            raise EtagMismatchError("there is no value with this etag")

    def _transact(self, operations: Sequence[Operation], cursor: Cursor) -> None:
        for operation in operations:
            if isinstance(operation, SetRequest):
                self._set(operation, cursor)
            else:
                self._delete(operation, cursor)

    def _keys(self, pattern: str, after: int, limit: int, cursor: Cursor) -> list[tuple[int, str]]:
        return cast("list[tuple[int, str]]", cursor.execute(self._sql.keys, (pattern, after, limit)).fetchall())

    def _delete_with_prefix(self, prefix: str, cursor: Cursor) -> int:
        pattern = glob_of_like(prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%")
        keys = [key for _, key in self._keys(pattern, 0, ALL_KEYS, cursor) if "||" not in key[len(prefix) :]]
        cursor.executemany(self._sql.delete, [(key,) for key in keys])
        return len(keys)

    def _scan(self, after: int, cursor: Cursor) -> tuple[int | None, list[int]]:
        rows = cursor.execute(self._sql.scan, (after, SCAN)).fetchall()
        return (rows[-1][0] if len(rows) == SCAN else None), [row for row, expired in rows if expired]

    def _remove_expired(self, rows: Sequence[int], cursor: Cursor) -> int:
        return sum(_changed(self._sql.remove_expired, (row,), cursor) for row in rows)

    # ---------------------------------------------------------------------------------------------------------------

    def _open(self) -> Database:
        if self._database is None:
            raise BackendError(f"state store {self.context.name} is not open")
        return self._database

    async def _bulk_write(self, write: Callable[[Q, Cursor], None], requests: Sequence[Q]) -> None:
        errors: list[BackendError] = []
        for chunk in _chunks(requests):
            try:
                answers = await self._open().write(partial(_each, write, chunk))
            except BackendError as error:
                errors.append(error)
            else:
                errors += [answer for answer in answers if isinstance(answer, BackendError)]
        if errors:
            raise errors[0]

    async def _clean_forever(self) -> None:
        while True:
            await asyncio.sleep(self.settings.cleanup_interval)
            with suppress(BackendError):  # locked, say: the next time will do
                await self.clean()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _chunks(requests: Sequence[Q]) -> Iterator[Sequence[Q]]:
    for start in range(0, len(requests), CHUNK):
        yield requests[start : start + CHUNK]


V = TypeVar("V")


def _each(call: Callable[[Q, Cursor], V], arguments: Sequence[Q], cursor: Cursor) -> list[V | BackendError]:
    """Do one call after another; an error of its own is that call's answer. A failure of SQLite ends them all."""
    answers: list[V | BackendError] = []
    for argument in arguments:
        try:
            answers.append(call(argument, cursor))
        except BackendError as error:
            answers.append(error)
    return answers


def _changed(statement: str, values: tuple[int, ...], cursor: Cursor) -> int:
    cursor.execute(statement, values)
    return cursor.connection.changes()


def _ping(cursor: Cursor) -> None:
    cursor.execute("SELECT 1").fetchall()


def rfc3339(stored: str) -> str:
    """The stored form of a time as RFC 3339 in UTC, to the second."""
    if len(stored) == len("2006-01-02 15:04:05"):
        return f"{stored[:10]}T{stored[11:]}Z"
    try:
        moment = datetime.fromisoformat(stored)
    except ValueError as error:
        raise BackendError("the stored time of expiry cannot be read") from error
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
