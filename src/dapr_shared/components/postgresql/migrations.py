"""The tables of `state.postgresql`, made and changed step by step exactly as daprd does it.

Beside the request road: run once, when a component starts. The metadata table holds how many steps were done (so that
daprd goes on where this stopped, and the other way round) and a row that is locked meanwhile, so that of many instances
one does it and the others wait. Unlike in daprd all steps are one transaction.
"""
# ruff: noqa: S608 - the names of tables are checked when settings are read, all else is bound

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from dapr_shared.contracts.component import BackendError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.components.postgresql.client import Client, Connection

LOCK_KEY = "lock"
TABLE_ATTEMPTS = 3
"""`CREATE TABLE IF NOT EXISTS` of several at once can fail; then it is tried again."""
_MADE_BY_ANOTHER = (asyncpg.UniqueViolationError, asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError)


@dataclass(frozen=True, slots=True)
class Layout:
    """The table of one version, and the steps that lead to it."""

    table: str
    metadata_table: str
    level_key: str
    """Row of the metadata table that holds the number of steps done."""
    columns: tuple[str, ...]
    steps: tuple[str, ...]
    """SQL of each step but the last, which adds the column `row_id`."""
    age: str
    """The column that orders rows which had no `row_id`."""


def layout_v1(table: str, metadata_table: str) -> Layout:
    """The layout of version v1."""
    return Layout(
        table,
        metadata_table,
        "migrations",
        ("key", "value", "isbinary", "insertdate", "updatedate", "expiredate", "row_id"),
        (
            (
                f"CREATE TABLE IF NOT EXISTS {table} (key text NOT NULL PRIMARY KEY, value jsonb NOT NULL, "
                "isbinary boolean NOT NULL, insertdate timestamp with time zone NOT NULL DEFAULT now(), "
                "updatedate timestamp with time zone NULL)"
            ),
            f"ALTER TABLE {table} ADD expiredate timestamp with time zone",
        ),
        "insertdate",
    )


def layout_v2(table: str, metadata_table: str, prefix: str) -> Layout:
    """The layout of version v2."""
    return Layout(
        table,
        metadata_table,
        f"migrations-state-v2-{prefix}",
        ("key", "value", "etag", "created_at", "updated_at", "expires_at", "row_id"),
        (
            (
                f"CREATE TABLE IF NOT EXISTS {table} (key text NOT NULL PRIMARY KEY, value bytea NOT NULL, "
                "etag uuid NOT NULL DEFAULT gen_random_uuid(), created_at timestamp with time zone NOT NULL DEFAULT now(), "
                "updated_at timestamp with time zone, expires_at timestamp with time zone); "
                f"CREATE INDEX ON {table} (expires_at)"
            ),
        ),
        "created_at",
    )


async def migrate(client: Client, layout: Layout) -> None:
    """Bring the tables to the layout. Raises `BackendError`, also for a table of another kind.

    Nothing is created or locked where everything is there: a user without the right to create tables is then enough.
    """
    if await client.value("SELECT to_regclass($1)::text", layout.metadata_table) is None:
        await _make_metadata_table(client, layout.metadata_table)
    if await client.use(lambda connection: _level(connection, layout)) <= len(layout.steps):
        await client.execute(
            f"INSERT INTO {layout.metadata_table} (key, value) VALUES ($1, $1) ON CONFLICT (key) DO NOTHING", LOCK_KEY
        )
        await client.transaction(lambda connection: _take_steps(connection, layout))
    await _check(client, layout)


async def _make_metadata_table(client: Client, table: str) -> None:
    for attempt in range(TABLE_ATTEMPTS):
        try:
            await client.execute(
                f"CREATE TABLE IF NOT EXISTS {table} (key text NOT NULL PRIMARY KEY, value text NOT NULL)"
            )
        except BackendError as error:
            if not isinstance(error.__cause__, _MADE_BY_ANOTHER) or attempt == TABLE_ATTEMPTS - 1:
                raise
            await asyncio.sleep(0.05)
        else:
            return


async def _level(connection: Connection, layout: Layout) -> int:
    level = await connection.fetchval(f"SELECT value FROM {layout.metadata_table} WHERE key = $1", layout.level_key)
    if level is None:
        return 0
    if not str(level).isdecimal():
        raise BackendError(f"the table {layout.metadata_table} holds no migration level: is it another table?")
    return int(level)


async def _take_steps(connection: Connection, layout: Layout) -> None:
    await connection.execute(f"SELECT value FROM {layout.metadata_table} WHERE key = $1 FOR UPDATE", LOCK_KEY)
    level = await _level(connection, layout)  # another instance may have been first
    for step in layout.steps[level:]:
        await connection.execute(step)
    if level <= len(layout.steps):
        await _add_row_id(connection, layout)
        await connection.execute(
            f"INSERT INTO {layout.metadata_table} (key, value) VALUES ($1, $2) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            layout.level_key,
            str(len(layout.steps) + 1),
        )


async def _add_row_id(connection: Connection, layout: Layout) -> None:
    """Number the rows, oldest first, and have PostgreSQL number what is added."""
    found = await connection.fetchrow(
        "SELECT c.relname, format('%I.%I', n.nspname, c.relname) AS quoted FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)",
        layout.table,
    )
    if found is None:
        raise BackendError(_missing(layout))
    table: str = found["quoted"]
    columns = await _columns(connection, layout.table)
    if "row_id" not in columns:
        await connection.execute(f"ALTER TABLE {table} ADD COLUMN row_id bigint")
    await connection.execute(
        f"UPDATE {table} AS t SET row_id = r.number FROM (SELECT key, row_number() OVER (ORDER BY {layout.age}, key) "
        f"AS number FROM {table} WHERE row_id IS NULL) AS r WHERE r.key = t.key"
    )
    await connection.execute(f"ALTER TABLE {table} ALTER COLUMN row_id SET NOT NULL")
    if not columns.get("row_id"):
        await connection.execute(f"ALTER TABLE {table} ALTER COLUMN row_id ADD GENERATED BY DEFAULT AS IDENTITY")
    sequence = await connection.fetchval("SELECT pg_get_serial_sequence($1, 'row_id')", table)
    if sequence is not None:
        await connection.execute(
            f"SELECT setval($1::text::regclass, COALESCE((SELECT max(row_id) FROM {table}), 0) + 1, false)", sequence
        )
    index = f"{found['relname']}_row_id_uidx".replace('"', '""')
    await connection.execute(f'CREATE UNIQUE INDEX IF NOT EXISTS "{index}" ON {table} (row_id)')


async def _columns(connection: Connection, table: str) -> dict[str, bool]:
    """The columns of a table, and whether PostgreSQL numbers them."""
    rows: Sequence[asyncpg.Record] = await connection.fetch(
        "SELECT attname::text, attidentity <> '' FROM pg_attribute "
        "WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
        table,
    )
    return {row[0]: row[1] for row in rows}


async def _check(client: Client, layout: Layout) -> None:
    columns = await client.use(lambda connection: _columns(connection, layout.table))
    if not columns:
        raise BackendError(_missing(layout))
    missing = [name for name in layout.columns if name not in columns]
    if missing:
        raise BackendError(
            f"the table {layout.table} is not one of this component and version: it has no column {', '.join(missing)}"
        )


def _missing(layout: Layout) -> str:
    return (
        f"the database has no table {layout.table}, but {layout.metadata_table} says that it was made: "
        "another name was used with it before; give each table its own metadataTableName"
    )
