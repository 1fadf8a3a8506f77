"""state.sqlite when things go wrong: killed processes, damaged and full disks, locks, slow calls."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import threading

import apsw
import pytest

from dapr_shared.components.sqlite import database as database_module
from dapr_shared.contracts.component import BackendError, BackendUnavailableError
from dapr_shared.contracts.state import EtagMismatchError, GetRequest, SetRequest
from tests.support.component_setups import must_get, until, value_of
from tests.support.component_sqlite import database, small_disk, sqlite_store, writer
from tests.support.component_writer import COUNTER, increment


@pytest.mark.parametrize("metadata", [{}, {"disableWAL": "true"}, {"synchronous": "normal"}], ids=str)
async def test_kill_loses_no_answered_write(tmp_path, metadata):
    """After a process that writes under load is killed, every write that it was answered is there."""
    path = tmp_path / "s.db"
    answered: list[str] = []
    async with asyncio.timeout(30):
        for _ in range(3):
            async with writer("acknowledge", path, **metadata) as process:
                lines: list[bytes] = [await process.stdout.readline() for _ in range(1000)]
                process.kill()
                rest, _ = await process.communicate()
            lines += rest.splitlines()
            answered += [line.decode().strip() for line in lines if line.strip()]
        async with sqlite_store(path, **metadata) as store:
            found = await store.bulk_get([GetRequest(key) for key in answered])
    assert len(answered) >= 3000
    lost = [
        key for key, value in zip(answered, found, strict=True) if value is None or value.data != f'"{key}"'.encode()
    ]
    assert lost == []


async def test_two_processes_write(tmp_path):
    """Two processes that write to one file at the same time lose nothing: increments by etag add up."""
    path = tmp_path / "s.db"
    async with asyncio.timeout(30), sqlite_store(path, busyTimeout="20s") as store:
        await store.set(SetRequest(COUNTER, b"0"))
        async with writer("increment", path, 300) as other:

            async def other_began() -> bool:
                return await value_of(store, COUNTER) != b"0"

            await until(other_began)
            await increment(store, 300)
            assert await other.wait() == 0
        assert await value_of(store, COUNTER) == b"600"


async def test_no_database(tmp_path):
    """A file that is no database is refused and left as it is."""
    path = tmp_path / "s.db"
    content = b"this is no database, but somebody needs it\n" * 100
    path.write_bytes(content)
    with pytest.raises(BackendError, match=r"s\.db is no SQLite database, or is encrypted; it was left as it is"):
        async with sqlite_store(path):
            pass
    assert path.read_bytes() == content


async def test_damaged_file(tmp_path):
    """A damaged page is an error of the calls that need it; the file is not made anew."""
    path = tmp_path / "s.db"
    async with sqlite_store(path) as store:
        await store.bulk_set([SetRequest(f"app||{number}", b'"' + b"x" * 500 + b'"') for number in range(2000)])
    content = bytearray(path.read_bytes())
    for page in range(8, len(content) // 4096):
        content[page * 4096 : page * 4096 + 100] = b"\xff" * 100
    path.write_bytes(content)
    async with sqlite_store(path) as store:
        gets = (store.get(GetRequest(f"app||{number}")) for number in range(2000))
        with pytest.raises(BackendError, match="the database is damaged and was left as it is: restore a backup"):
            await asyncio.gather(*gets)
    assert path.stat().st_size == len(content)


async def test_read_only(tmp_path):
    """With mode=ro values are read and every write is refused."""
    path = tmp_path / "s.db"
    with pytest.raises(BackendError, match="cannot be opened"):
        async with sqlite_store(f"{path}?mode=ro"):
            pass
    assert not path.exists()
    async with sqlite_store(path) as store:
        await store.set(SetRequest("app||k", b"1"))
    async with sqlite_store(f"{path}?mode=ro") as store:
        assert await value_of(store, "app||k") == b"1"
        with pytest.raises(BackendError, match="the database was opened read-only"):
            await store.set(SetRequest("app||k", b"2"))


async def test_read_only_disk(tmp_path):
    """A file that may not be written is refused at the start, with what to do; read-only use of it works."""
    disk = tmp_path / "disk"
    with small_disk(disk, 4096) as mounted:
        if not mounted:
            pytest.skip("file systems can be mounted by root alone")
        async with sqlite_store(disk / "s.db") as store:
            await store.set(SetRequest("app||k", b"1"))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)  # noqa: ASYNC221 - it is quick
        with pytest.raises(BackendError, match=r"is read-only: allow writing, or add \?mode=ro|cannot be opened"):
            async with sqlite_store(disk / "s.db"):
                pass
        async with sqlite_store(f"{disk / 's.db'}?immutable=1") as store:
            assert await value_of(store, "app||k") == b"1"


async def test_full_disk(tmp_path):
    """On a full disk a save is an error that says so, earlier values stay readable, and saving works again later."""
    disk = tmp_path / "disk"
    with small_disk(disk, 1024) as mounted:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        async with sqlite_store(disk / "s.db") as store:
            await store.set(SetRequest("app||k", b"1"))
            try:
                if not mounted:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, hard))
                with pytest.raises(BackendError, match="the disk is full" if mounted else "the disk failed|is full"):
                    await store.set(SetRequest("app||big", bytes(2 * 1024 * 1024), is_json=False))
                assert await value_of(store, "app||k") == b"1"
                assert await value_of(store, "app||big") is None
                await store.set(SetRequest("app||k", b"2"))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        async with sqlite_store(disk / "s.db") as store:
            assert await value_of(store, "app||k") == b"2"


async def test_large_values_do_not_fail_small_ones(tmp_path):
    """When one caller's value does not fit on the disk, the calls that shared its commit still succeed."""
    async with database(f"{tmp_path / 's.db'}?_pragma=max_page_count(100)") as opened:
        gate = threading.Event()
        first = opened.write(lambda cursor: gate.wait(10) and None)
        small = [
            opened.write(lambda cursor, n=n: cursor.execute("INSERT INTO t VALUES (?, 1)", (n,)) and n)
            for n in range(5)
        ]
        large = opened.write(lambda cursor: cursor.execute("INSERT INTO t VALUES ('x', ?)", (bytes(10**6),)) and None)
        gate.set()
        await first
        assert await asyncio.gather(*small) == list(range(5))
        with pytest.raises(BackendError, match="the disk is full"):
            await large
        assert await opened.read(lambda cursor: cursor.execute("SELECT count(*) FROM t").fetchall()) == [(5,)]


async def test_one_failed_call_is_its_own(tmp_path):
    """In one commit, a call that fails undoes its own statements and no others."""
    async with database(tmp_path / "s.db") as opened:
        gate = threading.Event()

        def fails(cursor):
            cursor.execute("INSERT INTO t VALUES ('half', 1)")
            raise EtagMismatchError("no")

        calls = [
            opened.write(lambda cursor: gate.wait(10) and None),
            opened.write(lambda cursor: cursor.execute("INSERT INTO t VALUES ('a', 1)") and 1),
            opened.write(fails, atomic=True),
            opened.write(lambda cursor: cursor.execute("INSERT INTO t VALUES ('a', 1)") and 1),
            opened.write(lambda cursor: cursor.execute("nonsense") and 1),
            opened.write(lambda cursor: cursor.execute("INSERT INTO t VALUES ('b', 1)") and 2),
        ]
        gate.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [results[index] for index in (0, 1, 5)] == [None, 1, 2]
        assert isinstance(results[2], EtagMismatchError)
        assert "UNIQUE constraint failed" in str(results[3])
        assert "syntax error" in str(results[4])
        keys = await opened.read(lambda cursor: cursor.execute("SELECT k FROM t ORDER BY k").fetchall())
        assert keys == [("a",), ("b",)]


async def test_failed_commit_fails_all(tmp_path):
    """When the commit itself fails, every call of the batch fails and nothing of it is there; the next one works."""
    async with database(tmp_path / "s.db") as opened:
        gate = threading.Event()
        refusals = [True]

        def refuse_one_commit(cursor):
            gate.wait(10)
            cursor.connection.set_commit_hook(lambda: bool(refusals and refusals.pop()))

        calls = [opened.write(refuse_one_commit)]
        calls += [opened.write(lambda cursor: cursor.execute("INSERT INTO t VALUES (1, 1)") and None) for _ in range(1)]
        gate.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, BackendError) for result in results)
        assert await opened.read(lambda cursor: cursor.execute("SELECT * FROM t").fetchall()) == []
        await opened.write(lambda cursor: cursor.execute("INSERT INTO t VALUES (1, 1)") and None)


async def test_locked_for_too_long(tmp_path):
    """While another process holds the file too long, writes say so and reads go on."""
    path = tmp_path / "s.db"
    async with sqlite_store(path, busyTimeout="50ms") as store:
        await store.set(SetRequest("app||k", b"1"))
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            BackendUnavailableError, match=r"was locked by another process for longer than busyTimeout \(0\.05 s\)"
        ):
            await store.set(SetRequest("app||k", b"2"))
        assert await value_of(store, "app||k") == b"1"
        other.execute("COMMIT")
        other.close()
        await store.set(SetRequest("app||k", b"3"))


async def test_start_while_locked(tmp_path):
    """A start that waits for another process's lock can be cancelled at once."""
    path = tmp_path / "s.db"
    async with sqlite_store(path):
        pass
    other = apsw.Connection(str(path))
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), sqlite_store(path, busyTimeout="60s"):
            pass
    other.close()


async def test_two_that_open_a_new_file_at_once(tmp_path, monkeypatch):
    """The one that SQLite turns away at once waits for the other and opens the file; not longer than busyTimeout."""

    class Turned:
        """A cursor that is turned away when it sets the journal's mode."""

        def __init__(self, cursor, times: int) -> None:
            self._cursor = cursor
            self._times = times

        def __getattr__(self, name: str):
            return getattr(self._cursor, name)

        def execute(self, text, *words):
            if "journal_mode =" in text and self._times:
                self._times -= 1
                raise apsw.BusyError
            return self._cursor.execute(text, *words)

    plain = database_module._cursor
    monkeypatch.setattr(database_module, "_cursor", lambda connection: Turned(plain(connection), 2))
    async with database(tmp_path / "x.db") as opened:
        assert await opened.read(lambda cursor: cursor.execute("PRAGMA journal_mode").fetchone()) == ("wal",)
    monkeypatch.setattr(database_module, "_cursor", lambda connection: Turned(plain(connection), 10**6))
    with pytest.raises(BackendError, match="busyTimeout"):
        async with database(tmp_path / "y.db", busy_timeout=0.05):
            pass


async def test_slow_database(tmp_path):
    """A call that gets no answer in time is an error; the database works on."""
    async with database(tmp_path / "s.db", timeout=0.2) as opened:
        gate = threading.Event()
        slow = opened.write(lambda cursor: gate.wait(10) and None)
        waiting = opened.write(lambda cursor: cursor.execute("INSERT INTO t VALUES ('late', 1)") and None)
        with pytest.raises(BackendUnavailableError, match=r"no answer within 0\.2 s"):
            await slow
        with pytest.raises(BackendUnavailableError):
            await waiting
        gate.set()
        await opened.write(lambda cursor: None)
        assert await opened.read(lambda cursor: cursor.execute("SELECT * FROM t").fetchall()) == []


async def test_full_queue(tmp_path):
    """More calls than the queue holds are refused by name, and reads do not count as writes."""
    async with database(tmp_path / "s.db", queue_limit=3) as opened:
        gate = threading.Event()
        calls = [opened.write(lambda cursor: gate.wait(10) and None) for _ in range(3)]
        with pytest.raises(BackendUnavailableError, match="the database is busy: 3 calls wait to write"):
            opened.write(lambda cursor: None)
        assert await opened.read(lambda cursor: cursor.execute("SELECT 1").fetchall()) == [(1,)]
        gate.set()
        await asyncio.gather(*calls)
        await opened.write(lambda cursor: None)


async def test_read_sees_what_was_written(tmp_path):
    """A read that begins after a write was answered sees it, however many run at once."""
    async with sqlite_store(tmp_path / "s.db") as store:

        async def turn(number: int) -> None:
            for count in range(20):
                await store.set(SetRequest(f"app||{number}", str(count).encode()))
                assert (await must_get(store, f"app||{number}")).data == str(count).encode()

        await asyncio.gather(*(turn(number) for number in range(20)))


async def test_callers_share_commits(tmp_path):
    """Writes that wait together are committed together."""
    commits: list[int] = []
    async with database(tmp_path / "s.db") as opened:
        await opened.write(lambda cursor: cursor.connection.set_commit_hook(lambda: bool(commits.append(1))))
        await asyncio.gather(
            *(opened.write(lambda cursor, n=n: cursor.execute("INSERT INTO t VALUES (?, 1)", (n,))) for n in range(500))
        )
    assert len(commits) <= 50
