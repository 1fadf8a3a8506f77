"""`bindings.postgresql`: apps run SQL that they write themselves.

Last step of the request road. Operations, metadata and the forms of results are Dapr's (reference components §5).
Apps that may use the component share its database user; nothing of one call's session (settings, role, open
transactions, temporary tables, locks) is there for the next.

What differs from daprd, on purpose: `close` closes nothing, since other apps use the component; a UUID comes as text;
a result has a bound.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, ClassVar, cast

import msgspec

from dapr_shared.components.postgresql.client import Client, changed
from dapr_shared.components.postgresql.settings import PostgresSettings
from dapr_shared.components.postgresql.values import json_of, parameter
from dapr_shared.contracts.bindings import BindingCapability, BindingRequest, BindingResponse, OutputBinding
from dapr_shared.contracts.component import BackendError

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from dapr_shared.components.postgresql.client import Connection

MAX_BYTES = 64 * 1024 * 1024
"""Most bytes of a query's answer."""
FETCH = 256
"""Rows that are fetched in one go."""
CLEAN = ("ROLLBACK", "DISCARD ALL")
"""What is run after each call: the next one may be another app's."""


class PostgresBindingSettings(PostgresSettings, frozen=True, kw_only=True):
    """The settings of `bindings.postgresql`."""


class PostgresBinding(OutputBinding[PostgresBindingSettings]):
    """SQL on PostgreSQL."""

    settings_type = PostgresBindingSettings
    capabilities: ClassVar[frozenset[str]] = frozenset({BindingCapability.OUTPUT_BINDING})
    operations = ("exec", "query", "close")

    _client: Client | None = None

    @property
    def calls_at_a_time(self) -> int:
        return self.settings.connections

    def data_location(self) -> str | None:
        return self.settings.place  # SQL reaches all of the database that its user may

    async def start(self, stack: AsyncExitStack) -> None:
        client = Client(self.settings, keep_statements=False, clean=CLEAN)
        await client.start(stack, self._wait_for)
        self._client = client

    async def ping(self) -> None:
        await self._open().value("SELECT 1")

    async def backend_time(self) -> float:
        return await self._open().time()

    async def invoke(self, request: BindingRequest) -> BindingResponse | None:
        if request.operation == "close":
            return None
        sql = request.metadata.get("sql", "")
        if not sql:
            raise BackendError("required metadata not set: sql")
        values = _parameters(request.metadata.get("params", ""))
        began, clock = datetime.now(UTC), perf_counter()
        metadata = {"operation": request.operation, "sql": sql, "start-time": _nanoseconds(began)}
        data = b""
        if request.operation == "exec":
            metadata["rows-affected"] = str(await self._open().use(lambda connection: _exec(connection, sql, values)))
        elif request.operation == "query":
            data = await self._open().use(lambda connection: _query(connection, sql, values))
        else:
            raise BackendError(f"invalid operation type: {request.operation}. Expected {', '.join(self.operations)}")
        seconds = perf_counter() - clock
        metadata |= {"end-time": _nanoseconds(datetime.now(UTC)), "duration": f"{seconds * 1000:.6f}ms"}
        return BindingResponse(data, metadata)

    def _wait_for(self, what: str) -> None:
        self.waits_for = what

    def _open(self) -> Client:
        if self._client is None:
            raise BackendError(f"binding {self.context.name} is not open")
        return self._client


async def _exec(connection: Connection, sql: str, values: list[object]) -> int:
    if not values:
        return changed(await connection.execute(sql))
    statement = await connection.prepare(sql)
    await statement.fetch(*_converted(statement.get_parameters(), values))
    return changed(statement.get_statusmsg() or "")


async def _query(connection: Connection, sql: str, values: list[object]) -> bytes:
    await connection.execute("BEGIN")
    statement = await connection.prepare(sql)
    types = [attribute.type.name for attribute in statement.get_attributes()]
    rows: list[bytes] = []
    size = 0
    async for row in statement.cursor(*_converted(statement.get_parameters(), values), prefetch=FETCH):
        rows.append(msgspec.json.encode([json_of(value, name) for value, name in zip(row, types, strict=True)]))
        size += len(rows[-1]) + 1
        if size > MAX_BYTES:
            raise BackendError(f"the answer has more than {MAX_BYTES} bytes, and was undone: ask for less at a time")
    await connection.execute("COMMIT")
    return b"[" + b",".join(rows) + b"]"


def _parameters(text: str) -> list[object]:
    if not text:
        return []
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise BackendError("invalid metadata property params: it is no JSON") from error
    if not isinstance(found, list):
        raise BackendError("invalid metadata property params: it is no array")
    return cast("list[object]", found)


def _converted(types: tuple[object, ...], values: list[object]) -> list[object]:
    if len(types) != len(values):
        raise BackendError(f"the SQL has {len(types)} parameters and params has {len(values)}")
    return [
        parameter(value, str(getattr(kind, "name", "")), f"params[{index}]")
        for index, (value, kind) in enumerate(zip(values, types, strict=True))
    ]


def _nanoseconds(moment: datetime) -> str:
    """RFC 3339 in UTC with a fraction."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
