"""pubsub.sqlite with several processes on one file: waking each other, sharing, dying and hanging."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter

import pytest

from dapr_shared.components.sqlite.pubsub_neighbours import ALL_TOPICS, Neighbours
from dapr_shared.contracts.pubsub import BulkEntry, Outcome
from tests.support.component_pubsub import Inbox, ask, drained, publish, sqlite_broker, traffic
from tests.support.component_setups import until
from tests.unit.components.test_sqlite_pubsub import rows

NEVER = (1000.0, 1000.0)
LOOK = "dapr_shared.components.sqlite.pubsub.LOOK"


def wake_files(path) -> list[str]:
    return sorted(file.name for file in path.with_name(f"{path.name}.wake").iterdir())


async def test_other_process_is_woken(tmp_path, monkeypatch):
    """A message that another process publishes is delivered at once, without any regular look at the file."""
    monkeypatch.setattr(LOOK, NEVER)
    path = tmp_path / "p.db"
    async with sqlite_broker(path) as broker:
        inbox = Inbox()
        await broker.subscribe(ask(), inbox)
        async with asyncio.timeout(20), traffic("publish", path) as process:
            assert await process.stdout.readline() == b"ready\n"
            published = [(await process.stdout.readline()).decode() for _ in range(50)]
            await inbox.until(lambda: {line[2:].strip() for line in published} <= set(inbox.texts))


async def test_long_path(tmp_path, monkeypatch):
    """Waking works for files whose path is longer than the address of a socket may be."""
    monkeypatch.setattr(LOOK, NEVER)
    path = tmp_path / ("d" * 100) / ("e" * 100) / "p.db"
    async with sqlite_broker(path) as here, sqlite_broker(path) as there:
        inbox = Inbox()
        await here.subscribe(ask(), inbox)
        await publish(there, "a")
        assert await inbox.count(1) == ["a"]


async def test_lost_ring(tmp_path, monkeypatch):
    """When a ring is lost, the slow look finds the message."""
    monkeypatch.setattr(LOOK, (0.2, 0.3))
    path = tmp_path / "p.db"
    async with sqlite_broker(path) as here, sqlite_broker(path) as there:
        inbox = Inbox()
        await here.subscribe(ask(), inbox)
        there._neighbours.ring = lambda topic: None
        await publish(there, "a")
        assert await inbox.count(1) == ["a"]


async def test_processes_share_a_group(tmp_path, monkeypatch):
    """Two processes of one group share its messages: each is delivered once, and both get some."""
    monkeypatch.setattr(LOOK, NEVER)
    path = tmp_path / "p.db"
    async with sqlite_broker(path) as here, sqlite_broker(path) as there:
        first, second = Inbox(), Inbox()
        for broker, inbox in ((here, first), (there, second)):
            inbox.gate.clear()
            subscription = await broker.subscribe(ask(most=5), inbox)
        texts = [str(number) for number in range(200)]
        await publish(here, *texts)
        await first.count(5)
        await second.count(5)
        first.gate.set()
        second.gate.set()
        await drained(subscription)
        assert Counter(first.texts + second.texts) == Counter(texts)


async def test_pausing_gives_to_others(tmp_path, monkeypatch):
    """What a process has ready, failed or released when it pauses goes to the other one of its group at once."""
    monkeypatch.setattr(LOOK, NEVER)
    path = tmp_path / "p.db"
    async with sqlite_broker(path, redeliverInterval="60s") as here, sqlite_broker(path) as there:
        outcomes = {b"0": Outcome.RETRY, b"1": Outcome.RELEASED}
        first, second = Inbox(lambda m: outcomes.get(m.data, Outcome.ACCEPTED)), Inbox()
        subscription = await here.subscribe(ask(most=10), first)
        await publish(here, "0", "1")
        await first.count(2)
        await first.until(lambda: not first.running)
        first.gate.clear()
        await publish(here, *map(str, range(2, 20)))
        await first.count(12)
        await subscription.pause()
        other = await there.subscribe(ask(), second)
        await second.count(10)
        assert {"0", "1"} <= set(second.texts)
        assert {message.data: message.deliveries for message in second.messages}[b"0"] == 2
        first.gate.set()
        await drained(other)
        assert Counter(first.texts[2:] + second.texts) == Counter(map(str, range(20)))


async def test_order_of_a_key_across_processes(tmp_path, monkeypatch):
    """Order within a key holds across processes that take turns: one at a time, in order."""
    monkeypatch.setattr(LOOK, NEVER)
    path = tmp_path / "p.db"
    seen: dict[str, list[int]] = {}
    running: set[str] = set()

    async def answer(message):
        key, number = message.data.decode().split("-")
        assert key not in running
        running.add(key)
        await asyncio.sleep(0.001)
        running.remove(key)
        seen.setdefault(key, []).append(int(number))
        return Outcome.ACCEPTED

    async with sqlite_broker(path) as here, sqlite_broker(path) as there:
        first, second = Inbox(answer), Inbox(answer)
        one = await here.subscribe(ask(most=3, ordered="true"), first)
        two = await there.subscribe(ask(most=3, ordered="true"), second)
        for number in range(40):
            for key in range(4):
                await publish(here if number % 2 else there, f"{key}-{number}", partitionKey=str(key))
            if number % 10 == 5:
                await one.pause()
            if number % 10 == 9:
                await one.resume()
        await drained(two)
        assert seen == {str(key): list(range(40)) for key in range(4)}
        assert first.texts
        assert second.texts


async def test_killed_process(tmp_path, monkeypatch):
    """What a killed process had is delivered to the next one that starts, at once and counted; its files are removed."""
    monkeypatch.setattr(LOOK, NEVER)
    path = tmp_path / "p.db"
    async with asyncio.timeout(30):
        async with traffic("hold", path) as process:
            assert await process.stdout.readline() == b"ready\n"
            async with sqlite_broker(path) as broker:
                await publish(broker, *"abc")
                assert sorted([await process.stdout.readline() for _ in range(3)]) == [b"D a\n", b"D b\n", b"D c\n"]
        assert len(wake_files(path)) == 2
        async with sqlite_broker(path) as broker:
            assert len(wake_files(path)) == 2
            assert rows(path, "SELECT count(*) FROM owners") == [(1,)]
            inbox = Inbox()
            await drained(await broker.subscribe(ask(), inbox))
            assert sorted(inbox.texts) == [*"abc"]
            assert {message.deliveries for message in inbox.messages} == {2}
    assert wake_files(path) == []
    assert rows(path, "SELECT count(*) FROM owners") == [(0,)]


async def test_process_killed_while_another_runs(tmp_path, monkeypatch):
    """What a killed process had is taken over by one that runs, at its next look."""
    monkeypatch.setattr(LOOK, (0.1, 0.2))
    path = tmp_path / "p.db"
    async with asyncio.timeout(30), sqlite_broker(path) as broker:
        async with traffic("hold", path) as process:
            assert await process.stdout.readline() == b"ready\n"
            await publish(broker, "a")
            assert await process.stdout.readline() == b"D a\n"
            inbox = Inbox()
            await broker.subscribe(ask(), inbox)
            await publish(broker, "b")
            process.kill()
            await process.wait()
        await inbox.until(lambda: "a" in inbox.texts)


async def test_process_that_hangs(tmp_path, monkeypatch):
    """What a process has that gives no sign of life within the visibility time-out goes to others; it may come back."""
    monkeypatch.setattr(LOOK, (0.1, 0.2))
    path = tmp_path / "p.db"
    async with (
        asyncio.timeout(40),
        sqlite_broker(path, visibilityTimeout="1s") as broker,
        traffic("hold", path, visibilityTimeout="1s") as process,
    ):
        assert await process.stdout.readline() == b"ready\n"
        await publish(broker, "a")
        assert await process.stdout.readline() == b"D a\n"
        inbox = Inbox()
        subscription = await broker.subscribe(ask(), inbox)
        await asyncio.sleep(2.5)
        assert inbox.texts == []  # it works on it for longer than the time-out, and lives
        os.kill(process.pid, signal.SIGSTOP)
        await inbox.count(1)
        assert inbox.messages[0].deliveries == 2
        await drained(subscription)
        os.kill(process.pid, signal.SIGCONT)
        await subscription.stop(1)
        await publish(broker, "b")
        assert await process.stdout.readline() == b"D b\n"


async def test_deposed_process_forgets(tmp_path, monkeypatch):
    """A process that was taken for dead delivers nothing more of what it had waiting, and goes on with what is new."""
    monkeypatch.setattr(LOOK, NEVER)
    path = tmp_path / "p.db"
    async with sqlite_broker(path, visibilityTimeout="1s") as here, sqlite_broker(path) as there:
        first, second = Inbox(), Inbox()
        first.gate.clear()
        await publish(here, *"abcdefgh")
        await here.subscribe(ask(most=4), first)
        await first.count(4)
        await until(lambda: taken(path, 8))
        owner = here._opened.owner
        assert await there._opened.database.write(
            lambda cursor: cursor.execute("UPDATE deliveries SET owner = 0") and cursor.execute("DELETE FROM owners")
        )
        other = await there.subscribe(ask(), second)
        await second.count(8)
        await until(lambda: known(path, owner))
        first.gate.set()
        await drained(other)
        await publish(there, *"xyz")
        await drained(other)
        assert Counter(first.texts + second.texts) == Counter("abcdefghabcdxyz")


async def taken(path, number: int) -> bool:
    return rows(path, "SELECT count(*) FROM deliveries WHERE owner > 0") == [(number,)]


async def known(path, owner: int) -> bool:
    return (owner,) in rows(path, "SELECT id FROM owners")


async def test_unknown_deliveries_are_found(tmp_path):
    """What the file says that a process has, and it does not know of, is delivered all the same."""
    path = tmp_path / "p.db"
    async with sqlite_broker(path) as broker:
        subscription = await broker.subscribe(ask(), Inbox())
        await subscription.pause()
        await publish(broker, *"abc")
        await subscription.stop(0)
        owner = broker._opened.owner

        def lose(cursor):
            cursor.execute("INSERT INTO deliveries (grp, message, owner) SELECT 1, id, ? FROM messages", (owner,))
            cursor.execute("UPDATE groups SET position = 3")

        await broker._opened.database.write(lose)
        inbox = Inbox()
        await drained(await broker.subscribe(ask(), inbox))
        assert sorted(inbox.texts) == [*"abc"]


async def test_strange_files_are_removed(tmp_path):
    """Files of processes that died before they had a number are removed at the next start."""
    path = tmp_path / "p.db"
    async with sqlite_broker(path):
        pass
    folder = tmp_path / "p.db.wake"
    (folder / "0123.lock").touch()
    (folder / "0123.sock").touch()
    async with sqlite_broker(path):
        assert [name for name in wake_files(path) if name.startswith("0123")] == []


async def test_full_mailbox(tmp_path):
    """A neighbour that does not listen for a while gets every topic later; one that is gone is no error."""
    heard: list[set[str] | None] = []
    here, there = Neighbours(tmp_path / "p.db", lambda topics: None), Neighbours(tmp_path / "p.db", heard.append)
    here.open()
    there.open()
    loop = asyncio.get_running_loop()
    topics = [f"t{number}" for number in range(300)]

    async def not_alone() -> bool:
        return not here.alone

    async def all_heard() -> bool:
        return {*topics} <= set().union(*(names or () for names in heard))

    async def told_to_look_at_all() -> bool:
        return None in heard

    try:
        await until(not_alone)
        loop.remove_reader(there._socket.fileno())
        for topic in topics * 10:
            here.ring(topic)
            here._send_all()
        assert here._unsent
        loop.add_reader(there._socket.fileno(), there._hear, there._socket)
        await until(all_heard)
        here._send(there.name, ALL_TOPICS)
        await until(told_to_look_at_all)
    finally:
        there.close()
        here.ring("t")
        here._send_all()
        here.close()


async def test_exclusive(tmp_path):
    """With `exclusive` a second process is refused."""
    path = tmp_path / "p.db"
    async with (
        asyncio.timeout(20),
        sqlite_broker(path, exclusive="true"),
        traffic("consume", path, exclusive="true") as process,
    ):
        assert await process.stdout.readline() == b""
        assert await process.wait() != 0


@pytest.mark.parametrize("graceful", [True, False])
async def test_backlog_of_a_late_app(tmp_path, graceful):
    """An app that comes after its messages gets all of them, also when its first instance goes away in the middle."""
    path = tmp_path / "p.db"
    async with sqlite_broker(path) as broker:
        await broker.bulk_publish("orders", [BulkEntry(str(n), str(n).encode()) for n in range(3000)], {})
    seen: list[str] = []
    async with asyncio.timeout(30):
        async with traffic("consume", path) as process:
            lines = [await process.stdout.readline() for _ in range(500)]
            process.send_signal(signal.SIGINT if graceful else signal.SIGKILL)
            rest, _ = await process.communicate()
            seen += [line[2:].decode() for line in b"".join([*lines[1:], rest]).splitlines() if line[:2] == b"D "]
        async with sqlite_broker(path) as broker:
            inbox = Inbox()
            await drained(await broker.subscribe(ask(), inbox))
    assert set(seen) | set(inbox.texts) == {str(n) for n in range(3000)}
    assert len(inbox.texts) + len(seen) < 3500


async def test_wake_up_is_quick(tmp_path, monkeypatch):
    """From a publish in one process to the handler in another it takes far less than a look's interval."""
    monkeypatch.setattr(LOOK, NEVER)
    path = tmp_path / "p.db"
    async with sqlite_broker(path) as here, sqlite_broker(path) as there:
        inbox = Inbox()
        await here.subscribe(ask(), inbox)
        best = 10.0
        for number in range(5):
            start = time.monotonic()
            await publish(there, str(number))
            await inbox.count(number + 1)
            best = min(best, time.monotonic() - start)
        assert best < 0.5


async def test_look_is_not_needed_alone(tmp_path, monkeypatch):
    """A process that is alone does not read the file to look for others."""
    monkeypatch.setattr(LOOK, (0.01, 0.02))
    async with sqlite_broker(tmp_path / "p.db") as broker:
        await broker.subscribe(ask(), Inbox())
        await publish(broker, "a")
        database = broker._opened.database
        reads: list[object] = []
        read = database.read
        database.read = lambda work: reads.append(work) or read(work)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await asyncio.Event().wait()
        assert reads == []
