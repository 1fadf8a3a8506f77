"""`state.postgresql`, versions v1 and v2: state in a table of PostgreSQL, in daprd's layout.

Last step of the request road. A table written by daprd can be read and written here and the other way round, also by
both at the same time: tables, migration levels, etags and forms of values are daprd's (reference components §3). v1
keeps JSON as `jsonb` (its white space and the order of its keys are lost) and other values as base64 with a mark; its
etag is the row's `xmin`. v2 keeps bytes, and its etag is a UUID.

What differs from daprd, on purpose: a first write that comes second is an etag mismatch, not a failure; a delete with
the etag of an expired value is a mismatch; a query sees the caller's keys alone and nothing that has expired; keys can
be deleted by prefix.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import asyncio
import re
import uuid
from abc import abstractmethod
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from contextlib import suppress
from datetime import UTC
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from dapr_shared.components.postgresql.client import Client, changed
from dapr_shared.components.postgresql.migrations import Layout, layout_v1, layout_v2, migrate
from dapr_shared.components.postgresql.query import run_query
from dapr_shared.components.postgresql.settings import (
    PostgresStateSettings,
    PostgresStateV1Settings,
    PostgresStateV2Settings,
)
from dapr_shared.components.postgresql.statements import Statements
from dapr_shared.contracts.component import UNKNOWN_LOCATION, BackendError, BackendUnavailableError
from dapr_shared.contracts.state import (
    Concurrency,
    DeleteRequest,
    EtagInvalidError,
    EtagMismatchError,
    GetRequest,
    KeysPage,
    Operation,
    QueryResult,
    SetRequest,
    StateCapability,
    StateStore,
    StateValue,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AsyncExitStack
    from datetime import datetime

    import asyncpg

    from dapr_shared.components.postgresql.client import Connection

MAX_XID = 2**32 - 1
UNDEFINED_TABLE = "42P01"
_LEAST_BULK = 2
_NO_METADATA: Mapping[str, str] = {}
_UUID = re.compile(r"(?:urn:uuid:)?[{]?[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}[}]?")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")
S = TypeVar("S", bound=PostgresStateSettings)
T = TypeVar("T")


class PostgresStateStore(StateStore[S]):
    """What both versions share; they differ in the columns."""

    capabilities: ClassVar[frozenset[str]] = frozenset(
        {
            StateCapability.ETAG,
            StateCapability.TRANSACTIONAL,
            StateCapability.TTL,
            StateCapability.DELETE_WITH_PREFIX,
            StateCapability.KEYS_LIKE,
        },
    )
    _client: Client | None = None
    _sql: Statements
    _remaking: asyncio.Lock

    @abstractmethod
    def _layout(self) -> Layout:
        """The tables."""

    @abstractmethod
    def _statements(self) -> Statements:
        """The SQL."""

    @abstractmethod
    def _stored(self, request: SetRequest) -> tuple[object, ...]:
        """The parameters of a value."""

    @abstractmethod
    def _etag(self, text: str) -> object:
        """The parameter of an etag. Raises `EtagMismatchError` and `EtagInvalidError`."""

    @abstractmethod
    def _value(self, row: asyncpg.Record) -> StateValue:
        """What a row holds. Raises `BackendError`."""

    @property
    def calls_at_a_time(self) -> int:
        return self.settings.connections

    def data_location(self) -> str | None:
        table = self._layout().table.replace('"', "").lower()
        schema, _, name = table.rpartition(".")
        if not schema and {"search_path", "options"} & set(self.settings.address().parameters):
            return UNKNOWN_LOCATION
        return f"{self.settings.place}#{schema or 'public'}.{name}"

    async def start(self, stack: AsyncExitStack) -> None:
        client = Client(self.settings)
        await client.start(stack, self._wait_for)
        await migrate(client, self._layout())
        self._sql = self._statements()
        self._remaking = asyncio.Lock()
        self._client = client
        if self.settings.cleanup_interval > 0:
            cleaner = asyncio.create_task(self._clean_forever(), name=f"{self.context.name}: remove expired state")
            stack.push_async_callback(_end, cleaner)

    async def ping(self) -> None:
        await self._open().value("SELECT 1")

    async def backend_time(self) -> float:
        return await self._open().time()

    async def get(self, request: GetRequest) -> StateValue | None:
        row = await self._run(lambda connection: connection.fetchrow(self._sql.get, request.key), self._open().read)
        return None if row is None else self._value(row)

    async def bulk_get(
        self, requests: Sequence[GetRequest], parallelism: int = 0
    ) -> list[StateValue | BackendError | None]:
        del parallelism  # one statement reads all
        if not requests:
            return []
        keys = list({request.key for request in requests})
        rows = await self._run(lambda connection: connection.fetch(self._sql.bulk_get, keys), self._open().read)
        found: dict[str, StateValue | BackendError] = {}
        for row in rows:
            try:
                found[row[0]] = self._value(row)
            except BackendError as error:
                found[row[0]] = error
        return [found.get(request.key) for request in requests]

    async def set(self, request: SetRequest) -> None:
        await self._run(lambda connection: self._set(connection, request), self._open().use)

    async def bulk_set(self, requests: Sequence[SetRequest]) -> None:
        """Plain writes go in one statement and one commit; where one of them cannot be, each is tried for itself."""
        keys = {request.key for request in requests}
        plain = [r for r in requests if not r.etag and r.concurrency is not Concurrency.FIRST_WRITE]
        if len(keys) < len(requests) or len(plain) < _LEAST_BULK:
            await super().bulk_set(requests)
            return
        rows = sorted((self._row(request) for request in plain), key=lambda row: str(row[0]))
        try:
            await self._run(lambda connection: connection.executemany(self._sql.put, rows), self._open().use)
        except BackendUnavailableError:
            raise
        except BackendError:
            await super().bulk_set(requests)
        else:
            await super().bulk_set([r for r in requests if r.etag or r.concurrency is Concurrency.FIRST_WRITE])

    async def delete(self, request: DeleteRequest) -> None:
        await self._run(lambda connection: self._delete(connection, request), self._open().use)

    async def transact(self, operations: Sequence[Operation], metadata: Mapping[str, str]) -> None:
        del metadata

        # All take their locks in one order, so that two transactions do not wait for each other. Only the order of
        # operations on one key can be seen, and stays.
        in_order = sorted(operations, key=lambda operation: operation.key)

        async def all_of_them(connection: Connection) -> None:
            for operation in in_order:
                if isinstance(operation, SetRequest):
                    await self._set(connection, operation)
                else:
                    await self._delete(connection, operation)

        client = self._open()
        if operations:
            await self._run(all_of_them, client.use if len(operations) == 1 else client.transaction)

    async def delete_with_prefix(self, prefix: str) -> int:
        return await self._open().execute(self._sql.delete_prefix, prefix)

    async def keys_like(self, pattern: str, page_size: int | None = None, token: str | None = None) -> KeysPage:
        if not pattern:
            raise BackendError("the pattern is empty")
        if token and not _WHOLE_NUMBER.fullmatch(token):
            raise BackendError("the continuation token is not one of this store's")
        if (len(pattern) - len(pattern.rstrip("\\"))) % 2:
            pattern += "\\"  # one that escapes nothing stands for itself
        limit = page_size + 1 if page_size else None
        rows = await self._open().rows(self._sql.keys, pattern, int(token or 0), limit)
        if page_size and len(rows) > page_size:
            return KeysPage(tuple(row[1] for row in rows[:page_size]), str(rows[page_size - 1][0]))
        return KeysPage(tuple(row[1] for row in rows))

    async def clean(self) -> int:
        """Remove the expired values, unless another process did so within the interval. Returns how many."""
        since = int(self.settings.cleanup_interval * 1000) - 100  # a little slack, as daprd allows
        client = self._open()
        if not await client.execute(self._sql.claim_cleanup, since):
            return 0
        removed = 0
        while chunk := await client.execute(self._sql.remove_expired):
            removed += chunk
        return removed

    async def _set(self, connection: Connection, request: SetRequest) -> None:
        stored = self._row(request)
        if request.etag:
            if not changed(await connection.execute(self._sql.replace, *stored, self._etag(request.etag))):
                raise EtagMismatchError("there is no value with this etag")
        elif request.concurrency is Concurrency.FIRST_WRITE:
            if not changed(await connection.execute(self._sql.insert, *stored)):
                raise EtagMismatchError("the key exists and the first write wins")
        else:
            await connection.execute(self._sql.put, *stored)

    def _row(self, request: SetRequest) -> tuple[object, ...]:
        """The parameters of a write."""
        ttl = request.ttl if request.ttl is not None and request.ttl > 0 else None
        return (request.key, *self._stored(request), ttl)

    async def _delete(self, connection: Connection, request: DeleteRequest) -> None:
        if not request.etag:
            await connection.execute(self._sql.delete, request.key)
        elif not changed(await connection.execute(self._sql.delete_etag, request.key, self._etag(request.etag))):
            raise EtagMismatchError("there is no value with this etag")

    async def _run(
        self,
        work: Callable[[Connection], Awaitable[T]],
        run: Callable[[Callable[[Connection], Awaitable[T]]], Awaitable[T]],
    ) -> T:
        """Run statements. A table that is gone (the server came back empty) is made again, once a call."""
        try:
            return await run(work)
        except BackendError as error:
            if getattr(error.__cause__, "sqlstate", None) != UNDEFINED_TABLE:
                raise
        async with self._remaking:
            await migrate(self._open(), self._layout())
        return await run(work)

    def _wait_for(self, what: str) -> None:
        self.waits_for = what

    def _open(self) -> Client:
        if self._client is None:
            raise BackendError(f"state store {self.context.name} is not open")
        return self._client

    async def _clean_forever(self) -> None:
        while True:
            await asyncio.sleep(self.settings.cleanup_interval)
            with suppress(BackendError):  # unreachable, say: the next time will do
                await self.clean()


class PostgresStateV1(PostgresStateStore[PostgresStateV1Settings]):
    """State in PostgreSQL as JSON, which can be queried."""

    settings_type = PostgresStateV1Settings
    capabilities: ClassVar[frozenset[str]] = PostgresStateStore.capabilities | {StateCapability.QUERY_API}

    async def query(self, query: Mapping[str, Any], metadata: Mapping[str, str], key_prefix: str = "") -> QueryResult:
        del metadata
        return await run_query(self._open(), self._sql.query, query, key_prefix, self._value)

    def _layout(self) -> Layout:
        return layout_v1(self.settings.table_name, self.settings.metadata_table_name)

    def _statements(self) -> Statements:
        return Statements.v1(self.settings.table_name, self.settings.metadata_table_name)

    def _stored(self, request: SetRequest) -> tuple[object, ...]:
        if request.is_json:
            return request.value.decode(), False
        return f'"{b2a_base64(request.value, newline=False).decode()}"', True

    def _etag(self, text: str) -> object:
        if not text.isascii() or not text.isdecimal() or len(text) > len(str(MAX_XID)) or int(text) > MAX_XID:
            raise EtagInvalidError("an etag of this store is a whole number")
        return int(text)

    def _value(self, row: asyncpg.Record) -> StateValue:
        _, text, is_binary, etag, expires = row
        data: bytes = text.encode()
        if is_binary:
            try:
                data = a2b_base64(data[1:-1])
            except Base64Error as error:
                raise BackendError("the stored value is marked as binary and is not base64") from error
        return StateValue(data, str(etag), _expiry(expires), is_json=not is_binary)


class PostgresStateV2(PostgresStateStore[PostgresStateV2Settings]):
    """State in PostgreSQL as bytes."""

    settings_type = PostgresStateV2Settings

    def _layout(self) -> Layout:
        settings = self.settings
        return layout_v2(settings.state_table, settings.metadata_table_name, settings.table_prefix)

    def _statements(self) -> Statements:
        settings = self.settings
        return Statements.v2(settings.state_table, settings.metadata_table_name, settings.table_prefix)

    def _stored(self, request: SetRequest) -> tuple[object, ...]:
        return (request.value,)

    def _etag(self, text: str) -> object:
        if not _UUID.fullmatch(text):
            raise EtagMismatchError("there is no value with this etag: etags of this store are UUIDs")
        return uuid.UUID(text)

    def _value(self, row: asyncpg.Record) -> StateValue:
        _, data, etag, expires = row
        return StateValue(data, etag, _expiry(expires))


def _expiry(expires: datetime | None) -> Mapping[str, str]:
    if expires is None:
        return _NO_METADATA
    return {"ttlExpireTime": expires.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
