"""Connection strings, files and the exclusive lock of state.sqlite."""

from __future__ import annotations

import os
import stat

import pytest

from dapr_shared.components.sqlite.location import parse_location
from dapr_shared.components.sqlite.state import SqliteStateStore
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.settings import SettingError, decode_settings
from dapr_shared.contracts.state import SetRequest
from tests.support.component_sqlite import sqlite_store, writer


@pytest.mark.parametrize(
    ("text", "path", "uri", "read_only"),
    [
        ("s.db", "s.db", "file:s.db", False),
        (" data/s.db ", "data/s.db", "file:data/s.db", False),
        ("/a b/s.db", "/a b/s.db", "file:/a%20b/s.db", False),
        ("a%20b.db", "a b.db", "file:a%20b.db", False),
        ("file:s.db", "s.db", "file:s.db", False),
        ("file:/x/s.db#part", "/x/s.db", "file:/x/s.db", False),
        ("file:///x/s.db", "/x/s.db", "file:/x/s.db", False),
        ("FILE://localhost/x/s.db", "/x/s.db", "file:/x/s.db", False),
        ("s.db?mode=ro", "s.db", "file:s.db?mode=ro", True),
        ("s.db?immutable=1&mode=rw&mode=ro", "s.db", "file:s.db?mode=rw&immutable=1", True),
        ("s.db?cache=shared&_txlock=deferred&_time_format=sqlite", "s.db", "file:s.db", False),
        (":memory:", None, ":memory:", False),
        (":MEMORY:?cache=shared", None, ":memory:", False),
        ("file::memory:?cache=shared", None, ":memory:", False),
        ("file:name?mode=memory", None, ":memory:", False),
    ],
)
def test_connection_strings(text, path, uri, read_only):
    """Connection strings are read as daprd reads them."""
    location = parse_location(text)
    assert (location.path and str(location.path), location.uri, location.read_only) == (path, uri, read_only)


def test_pragmas():
    """Pragmas of the connection string are kept in order, in both forms."""
    location = parse_location("s.db?_pragma=cache_size(-4000)&_pragma=Temp_Store=memory&_pragma=optimize")
    assert location.pragmas == ("PRAGMA cache_size = -4000", "PRAGMA temp_store = memory", "PRAGMA optimize")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is required"),
        ("?mode=ro", "names no file"),
        ("file://other/x.db", "names another machine, 'other'"),
        ("s.db?_pragma=busy_timeout(5)", "_pragma=busy_timeout is refused: use the setting busyTimeout"),
        ("s.db?_pragma=Journal_Mode=off", "_pragma=journal_mode is refused: use the setting disableWAL"),
        ("s.db?_pragma=foreign_keys(1)", "_pragma=foreign_keys is refused"),
        ("s.db?_pragma=synchronous(off)", "_pragma=synchronous is refused: use the setting synchronous"),
        ("s.db?_pragma=x;drop", "is not of the form name(value)"),
        ("s.db?_pragma=x(1);drop table state", "is not of the form name(value)"),
    ],
)
def test_refused_connection_strings(text, message):
    """What cannot be meant is refused, by the setting's name."""
    with pytest.raises(SettingError, match=r"^connectionString: ") as caught:
        parse_location(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "connectionString: is required"),
        ({"connectionString": "s.db", "tableName": "a b"}, "tableName: must be letters, digits and '_', found 'a b'"),
        ({"connectionString": "s.db", "metadataTableName": "x;"}, "metadataTableName: must be letters"),
        (
            {"connectionString": "s.db", "tableName": "Metadata"},
            "metadataTableName: must not be the table of tableName",
        ),
        ({"connectionString": "s.db", "timeout": "500ms"}, "timeout: must be at least 1"),
        ({"connectionString": "s.db", "synchronous": "off"}, "synchronous: must be one of full, normal, found 'off'"),
        ({"connectionString": "s.db", "busyTimeout": "soon"}, "busyTimeout: expected a duration"),
    ],
)
def test_wrong_settings(metadata, message):
    """A wrong setting is an error that names it."""
    with pytest.raises(SettingError) as caught:
        decode_settings(SqliteStateStore.settings_type, metadata)
    assert message in str(caught.value)


def test_settings_of_daprd():
    """Daprd's names, aliases and defaults hold, but for the cleanup, which is hourly as daprd's documentation says."""
    settings = decode_settings(SqliteStateStore.settings_type, {"URL": "s.db"})
    assert settings.connection_string == "s.db"
    assert (settings.table_name, settings.metadata_table_name) == ("state", "metadata")
    assert (settings.timeout, settings.busy_timeout, settings.cleanup_interval) == (20.0, 2.0, 3600.0)
    assert (settings.disable_wal, settings.synchronous, settings.exclusive) == (False, "full", False)
    given = {"url": "s.db", "timeoutInSeconds": "5", "cleanupIntervalInSeconds": "0", "disableWAL": "on"}
    settings = decode_settings(SqliteStateStore.settings_type, given)
    assert (settings.timeout, settings.cleanup_interval, settings.disable_wal) == (5.0, 0.0, True)


async def test_new_files_are_private(tmp_path):
    """Missing directories are made for the owner alone, and so are the file and its log."""
    path = tmp_path / "a" / "b" / "s.db"
    async with sqlite_store(path) as store:
        await store.set(SetRequest("app||k", b"1"))
        files = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
        assert files == {"s.db": 0o600, "s.db-wal": 0o600, "s.db-shm": 0o600}
        assert [stat.S_IMODE(made.stat().st_mode) for made in (path.parent, path.parent.parent)] == [0o700, 0o700]


async def test_a_file_that_is_there_keeps_its_mode(tmp_path):
    """The mode of a file that exists is not changed."""
    path = tmp_path / "s.db"
    path.touch(0o640)
    os.chmod(path, 0o640)  # noqa: PTH101 - whatever the umask
    async with sqlite_store(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_impossible_path(tmp_path):
    """A path that cannot be is an error that names it."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "s.db", tmp_path):
        with pytest.raises(BackendError, match=str(tmp_path)):
            async with sqlite_store(path):
                pass


async def test_exclusive(tmp_path):
    """A second process is refused, told which process holds the file, and served when that one has ended."""
    path = tmp_path / "s.db"
    async with writer("hold", path, exclusive="true") as holder:
        assert await holder.stdout.readline() == b"held\n"
        with pytest.raises(BackendError) as caught:
            async with sqlite_store(path, exclusive="true"):
                pass
        assert f"in use by another instance (process {holder.pid}), which holds {path}.lock" in str(caught.value)
        async with sqlite_store(path):
            pass
    async with sqlite_store(path, exclusive="true"):
        pass


async def test_exclusive_within_one_process(tmp_path):
    """Components of one process share the lock, so that a reload opens the new before it closes the old."""
    path = tmp_path / "s.db"
    async with sqlite_store(path, exclusive="true") as new:
        async with sqlite_store(path, exclusive="true") as old:
            await old.set(SetRequest("app||k", b"1"))
        await new.set(SetRequest("app||k", b"2"))
        async with writer("hold", path, exclusive="true") as second:
            assert await second.stdout.readline() == b""
            assert await second.wait() != 0
