"""The SQL of `state.sqlite`, and the layout that it shares with daprd.

Last step of the request road. Table names cannot be parameters of SQL; they are checked to be identifiers before they
come here.
"""
# ruff: noqa: S608 - the names of tables are checked identifiers, all else is bound

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from dapr_shared.contracts.component import BackendError

if TYPE_CHECKING:
    from dapr_shared.components.sqlite.cursor import Cursor

MIGRATIONS_KEY = "migrations"
"""Row of the metadata table that holds the number of migrations done."""
CLEANUP_KEY = "last-cleanup"
"""Row of the metadata table that holds when expired rows were last removed, by any process."""
COLUMNS = ("key", "value", "is_binary", "etag", "expiration_time", "update_time")

_LIVE = "(expiration_time IS NULL OR expiration_time > CURRENT_TIMESTAMP)"
_EXPIRED = "(expiration_time IS NOT NULL AND expiration_time <= CURRENT_TIMESTAMP)"
_EXPIRES = "DATETIME(CURRENT_TIMESTAMP, ?)"  # NULL for NULL


@dataclass(frozen=True, slots=True)
class Statements:
    """All statements, for one pair of tables. Values are text bound as bytes, hence the casts: no copy is decoded."""

    get: str
    put: str
    """key, value, is_binary, etag, modifier of the expiry or NULL."""
    insert: str
    """As `put`, and changes no row where a value is there."""
    replace: str
    """value, is_binary, etag, modifier of the expiry or NULL, key, expected etag."""
    delete: str
    delete_etag: str
    keys: str
    """GLOB pattern, row to start after, number of rows."""
    scan: str
    """Row to start after, number of rows: row and whether it has expired."""
    remove_expired: str
    claim_cleanup: str
    """Milliseconds since the last cleanup; changes a row if it is time for one."""

    @classmethod
    def of(cls, table: str, metadata_table: str) -> Statements:
        """Fill in the names of the tables."""
        templates = {
            "get": f"SELECT CAST(value AS BLOB), is_binary, etag, expiration_time FROM {{t}} WHERE key = ? AND {_LIVE}",
            "put": _PUT,
            "insert": f"{_PUT} WHERE {_EXPIRED}",
            "replace": f"UPDATE {{t}} SET value = CAST(? AS TEXT), is_binary = ?, etag = ?, expiration_time = {_EXPIRES}, "
            f"update_time = CURRENT_TIMESTAMP WHERE key = ? AND etag = ? AND {_LIVE}",
            "delete": "DELETE FROM {t} WHERE key = ?",
            "delete_etag": f"DELETE FROM {{t}} WHERE key = ? AND etag = ? AND {_LIVE}",
            "keys": f"SELECT rowid, key FROM {{t}} WHERE key GLOB ? AND {_LIVE} AND rowid > ? ORDER BY rowid LIMIT ?",
            "scan": f"SELECT rowid, {_EXPIRED} FROM {{t}} WHERE rowid > ? ORDER BY rowid LIMIT ?",
            "remove_expired": f"DELETE FROM {{t}} WHERE rowid = ? AND {_EXPIRED}",
            "claim_cleanup": f"INSERT INTO {{m}} (key, value) VALUES ('{CLEANUP_KEY}', CURRENT_TIMESTAMP) "
            "ON CONFLICT (key) DO UPDATE SET value = CURRENT_TIMESTAMP "
            "WHERE (unixepoch(CURRENT_TIMESTAMP) - unixepoch(value)) * 1000 > ?",
        }
        filled = {name: template.format(t=table, m=metadata_table) for name, template in templates.items()}
        return cls(**{field.name: filled[field.name] for field in fields(cls)})


_PUT = (
    "INSERT INTO {t} (key, value, is_binary, etag, expiration_time, update_time) "
    f"VALUES (?, CAST(? AS TEXT), ?, ?, {_EXPIRES}, CURRENT_TIMESTAMP) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, is_binary = excluded.is_binary, etag = excluded.etag, "
    "expiration_time = excluded.expiration_time, update_time = excluded.update_time"
)


def migrate(cursor: Cursor, table: str, metadata_table: str) -> None:
    """Make the tables that are missing, as daprd's first migration makes them. Raises `BackendError`."""
    cursor.execute(f"CREATE TABLE IF NOT EXISTS {metadata_table} (key text NOT NULL PRIMARY KEY, value text NOT NULL)")
    level = cursor.execute(f"SELECT value FROM {metadata_table} WHERE key = ?", (MIGRATIONS_KEY,)).fetchone()
    if level is not None and not str(level[0]).isdecimal():
        raise BackendError(
            f"the table {metadata_table} holds no migration level, but {level[0]!r}: is it another table?"
        )
    if level is not None and int(level[0]) > 0:
        return
    cursor.execute(
        f"CREATE TABLE IF NOT EXISTS {table} ("
        "key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL, is_binary BOOLEAN NOT NULL, etag TEXT NOT NULL, "
        "expiration_time TIMESTAMP DEFAULT NULL, update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)",
    )
    cursor.execute(f"REPLACE INTO {metadata_table} (key, value) VALUES (?, '1')", (MIGRATIONS_KEY,))


def check_layout(cursor: Cursor, table: str) -> None:
    """Raise `BackendError` where the table is missing or has other columns than ours."""
    found = {str(row[0]) for row in cursor.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()}
    if not found:
        raise BackendError(
            f"the database has no table {table}. If its metadata table says that it was migrated, another tableName was "
            "used with it: give each tableName its own metadataTableName",
        )
    missing = [column for column in COLUMNS if column not in found]
    if missing:
        raise BackendError(f"the table {table} is not one of state.sqlite: it has no column {', '.join(missing)}")


def glob_of_like(pattern: str) -> str:
    """The GLOB pattern (always case-sensitive) of a LIKE pattern with backslash as its escape. Raises `BackendError`."""
    if not pattern:
        raise BackendError("the pattern is empty")
    parts: list[str] = []
    characters = iter(pattern)
    for character in characters:
        match character:
            case "%":
                parts.append("*")
            case "_":
                parts.append("?")
            case "\\":
                parts.append(_literal(next(characters, "\\")))
            case _:
                parts.append(_literal(character))
    return "".join(parts)


def _literal(character: str) -> str:
    return f"[{character}]" if character in "*?[" else character
