"""The file of state.sqlite: daprd's layout, column by column, and what is found in files of others."""

from __future__ import annotations

import re

import apsw
import pytest

from dapr_shared.components.sqlite.state import rfc3339
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.state import GetRequest, SetRequest
from tests.support.component_setups import must_get, until, value_of
from tests.support.component_sqlite import sqlite_store

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
DAPRD = """
CREATE TABLE metadata (key text NOT NULL PRIMARY KEY, value text NOT NULL);
CREATE TABLE state (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL, is_binary BOOLEAN NOT NULL, etag TEXT NOT NULL,
  expiration_time TIMESTAMP DEFAULT NULL, update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
INSERT INTO metadata VALUES ('migrations', '1');
INSERT INTO state VALUES ('app||j', '{"a":1}', 0, 'e-1', NULL, '2026-01-01 00:00:00');
INSERT INTO state VALUES ('app||b', 'AP8=', 1, 'e-2', '2999-01-02 03:04:05', '2026-01-01 00:00:00');
INSERT INTO state VALUES ('app||x', '1', 0, 'e-3', '2020-01-02 03:04:05', '2026-01-01 00:00:00');
"""
"""A file as daprd 1.18 writes it."""


def rows(path, statement: str) -> list[tuple]:
    connection = apsw.Connection(str(path))
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def make(path, script: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(script)
    connection.close()


async def test_tables_are_daprs(tmp_path):
    """Tables, columns, types, defaults and the migration level are those that daprd makes."""
    ours, daprs = tmp_path / "ours.db", tmp_path / "daprs.db"
    async with sqlite_store(ours):
        pass
    make(daprs, DAPRD)
    for statement in (
        "SELECT type, name, tbl_name FROM sqlite_schema ORDER BY name",
        "SELECT * FROM pragma_table_xinfo('state')",
        "SELECT * FROM pragma_table_xinfo('metadata')",
        "SELECT * FROM metadata",
        "PRAGMA encoding",
        "PRAGMA user_version",
    ):
        assert rows(ours, statement) == rows(daprs, statement)
    assert [row[1:6] for row in rows(ours, "SELECT * FROM pragma_table_info('state')")] == [
        ("key", "TEXT", 1, None, 1),
        ("value", "TEXT", 1, None, 0),
        ("is_binary", "BOOLEAN", 1, None, 0),
        ("etag", "TEXT", 1, None, 0),
        ("expiration_time", "TIMESTAMP", 0, "NULL", 0),
        ("update_time", "TIMESTAMP", 1, "CURRENT_TIMESTAMP", 0),
    ]


async def test_forms_are_daprs(tmp_path):
    """Values, marks, etags and times have the forms and SQLite types in which daprd writes them."""
    async with sqlite_store(tmp_path / "s.db") as store:
        await store.set(SetRequest("app||j", b'{"a": 1}'))
        await store.set(SetRequest("app||b", b"\x00\xff", is_json=False, ttl=100))
    found = rows(
        tmp_path / "s.db",
        "SELECT key, value, is_binary, etag, expiration_time, update_time, typeof(value), typeof(is_binary), typeof(etag), "
        "unixepoch(expiration_time) - unixepoch(update_time) FROM state ORDER BY key DESC",
    )
    assert [row[:3] for row in found] == [("app||j", '{"a": 1}', 0), ("app||b", "AP8=", 1)]
    assert all(UUID4.fullmatch(row[3]) and TIME.fullmatch(row[5]) for row in found)
    assert all(row[6:9] == ("text", "integer", "text") for row in found)
    assert (found[0][4], found[1][9]) == (None, 100)
    assert TIME.fullmatch(found[1][4])


async def test_a_file_of_daprd(tmp_path):
    """Values that daprd wrote are read with their etags and expiry, and can be replaced by etag."""
    make(tmp_path / "s.db", DAPRD)
    async with sqlite_store(tmp_path / "s.db") as store:
        found = await must_get(store, "app||j")
        assert (found.data, found.etag, dict(found.metadata)) == (b'{"a":1}', "e-1", {})
        found = await must_get(store, "app||b")
        assert (found.data, found.etag) == (b"\x00\xff", "e-2")
        assert found.metadata == {"ttlExpireTime": "2999-01-02T03:04:05Z"}
        assert await store.get(GetRequest("app||x")) is None
        await store.set(SetRequest("app||j", b"2", etag="e-1"))
        assert await store.clean() == 1
    assert rows(tmp_path / "s.db", "SELECT count(*) FROM state") == [(2,)]
    (marker,) = rows(tmp_path / "s.db", "SELECT value FROM metadata WHERE key = 'last-cleanup'")
    assert TIME.fullmatch(marker[0])


async def test_cleanup_is_shared(tmp_path):
    """Another process's cleanup within the interval makes ours needless; later ones look at all rows, in steps."""
    make(tmp_path / "s.db", DAPRD)
    async with sqlite_store(tmp_path / "s.db") as store:
        await store.bulk_set([SetRequest(f"app||{number}", b"1") for number in range(2500)])
        make(tmp_path / "s.db", "UPDATE state SET expiration_time = '2020-01-01 00:00:00' WHERE rowid % 2 = 0")
        make(tmp_path / "s.db", "INSERT INTO metadata VALUES ('last-cleanup', datetime('now', '-10 seconds'))")
        assert await store.clean() == 0
        make(tmp_path / "s.db", "UPDATE metadata SET value = datetime('now', '-2 hours') WHERE key = 'last-cleanup'")
        assert await store.clean() >= 1250
        assert await store.clean() == 0
    assert rows(tmp_path / "s.db", "SELECT count(*) FROM state WHERE expiration_time < '2021'") == [(0,)]


async def test_cleanup_runs(tmp_path):
    """Expired rows leave the file by themselves."""
    make(tmp_path / "s.db", DAPRD)

    async def expired_is_gone() -> bool:
        return rows(tmp_path / "s.db", "SELECT count(*) FROM state") == [(2,)]

    async with sqlite_store(tmp_path / "s.db", cleanupInterval="200ms"):
        await until(expired_is_gone)


async def test_own_tables(tmp_path):
    """Two stores with their own table names share a file and see nothing of each other."""
    names = {"tableName": "other", "metadataTableName": "other_metadata"}
    async with sqlite_store(tmp_path / "s.db") as one, sqlite_store(tmp_path / "s.db", **names) as other:
        await one.set(SetRequest("app||k", b"1"))
        assert await value_of(other, "app||k") is None


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("CREATE TABLE state (id, data)", "it has no column key, value, is_binary, etag, expiration_time, update_time"),
        (
            "CREATE TABLE metadata (key, value); INSERT INTO metadata VALUES ('migrations', 'two')",
            "holds no migration level, but 'two'",
        ),
        (
            "CREATE TABLE metadata (key, value); INSERT INTO metadata VALUES ('migrations', '1')",
            "give each tableName its own metadataTableName",
        ),
        ("CREATE TABLE metadata (a)", "no such column"),
        ("PRAGMA encoding = 'UTF-16'; CREATE TABLE x (a)", "keeps text as UTF-16le; only UTF-8 is supported"),
    ],
)
async def test_other_files(tmp_path, script, message):
    """A file with other tables is refused with what is wrong, and nothing in it is changed."""
    make(tmp_path / "s.db", script)
    before = rows(tmp_path / "s.db", "SELECT name, sql FROM sqlite_schema ORDER BY name")
    with pytest.raises(BackendError, match=re.escape(message)):
        async with sqlite_store(tmp_path / "s.db"):
            pass
    if "CREATE TABLE state" not in script:
        assert rows(tmp_path / "s.db", "SELECT name, sql FROM sqlite_schema ORDER BY name") == before


async def test_broken_values(tmp_path):
    """A row that says it is binary and is not, or whose expiry cannot be read, is an error of that key alone."""
    make(tmp_path / "s.db", DAPRD + "UPDATE state SET value = 'x' WHERE key = 'app||b';")
    make(tmp_path / "s.db", "INSERT INTO state VALUES ('app||t', '1', 0, 'e', 'never', '2026-01-01 00:00:00')")
    async with sqlite_store(tmp_path / "s.db") as store:
        answers = await store.bulk_get([GetRequest(f"app||{key}") for key in "jbt"])
    assert answers[0].data == b'{"a":1}'
    assert [str(answer) for answer in answers[1:]] == [
        "the stored value is marked as binary and is not base64",
        "the stored time of expiry cannot be read",
    ]


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("2026-01-02 03:04:05", "2026-01-02T03:04:05Z"),
        ("2026-01-02 03:04:05.999", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05Z"),
        ("2026-01-02", "2026-01-02T00:00:00Z"),
    ],
)
def test_times(stored, shown):
    """Every form of time that daprd's driver reads is shown as RFC 3339 in UTC."""
    assert rfc3339(stored) == shown
