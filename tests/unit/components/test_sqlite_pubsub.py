"""pubsub.sqlite: what is kept and for how long, and its file when things go wrong."""

from __future__ import annotations

import asyncio
import resource

import apsw
import pytest

from dapr_shared.components.sqlite import pubsub_statements as statements
from dapr_shared.components.sqlite.pubsub_schema import LAYOUT
from dapr_shared.components.sqlite.pubsub_settings import SqlitePubSubSettings
from dapr_shared.contracts.component import BackendError, BackendUnavailableError
from dapr_shared.contracts.pubsub import BrokerFullError, BulkEntry, Outcome, PublishRequest
from dapr_shared.contracts.settings import SettingError, decode_settings
from tests.support.component_pubsub import Inbox, ask, drained, publish, sqlite_broker
from tests.support.component_setups import HandClock, until
from tests.support.component_sqlite import small_disk, sqlite_store

QUICK = {"redeliverInterval": "20ms", "maxRedeliverInterval": "50ms"}


def rows(path, statement: str) -> list[tuple]:
    connection = apsw.Connection(str(path))
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({}, "connectionString: is required"),
        ({"connectionString": ":memory:"}, "must name a file that may be written"),
        ({"connectionString": "p.db?mode=ro"}, "must name a file that may be written"),
        ({"connectionString": "p.db", "maxSize": "0"}, "maxSize: must be at least 1"),
        ({"connectionString": "p.db", "retention": "soon"}, "retention: expected a duration"),
        ({"connectionString": "p.db", "visibilityTimeout": "1ms"}, "visibilityTimeout: must be at least 1"),
        ({"connectionString": "p.db", "synchronous": "off"}, "synchronous: must be one of full, normal"),
    ],
)
def test_wrong_settings(metadata, problem):
    """A wrong setting is an error that names the field."""
    with pytest.raises(SettingError, match=problem):
        decode_settings(SqlitePubSubSettings, metadata)


def test_defaults():
    """The defaults are those of the documentation: a week, 1 GiB, a minute, full."""
    settings = decode_settings(SqlitePubSubSettings, {"url": "p.db"})
    assert (settings.retention, settings.max_size, settings.visibility_timeout) == (604800.0, 2**30, 60.0)
    assert (settings.redeliver_interval, settings.max_redeliver_interval, settings.synchronous) == (1.0, 60.0, "full")


# What is kept --------------------------------------------------------------------------------------------------------


async def test_done_messages_are_kept(tmp_path):
    """What one group has done is there for a group that comes later, in the order of publication."""
    async with sqlite_broker(tmp_path / "p.db") as broker:
        first = Inbox()
        subscription = await broker.subscribe(ask("first"), first)
        await publish(broker, *"abc")
        await drained(subscription)
        late = Inbox()
        await broker.subscribe(ask("late", most=1), late)
        assert await late.count(3) == [*"abc"]


async def test_retention(tmp_path):
    """Messages older than the retention are removed, done or not, but for those with a handler; younger ones stay."""
    clock = HandClock()
    async with sqlite_broker(tmp_path / "p.db", clock, retention="1h", **QUICK) as broker:
        held, failing = Inbox(), Inbox(lambda m: Outcome.RETRY if m.data != b"young" else Outcome.ACCEPTED)
        held.gate.clear()
        await publish(broker, "old")
        one = await broker.subscribe(ask("held"), held)
        two = await broker.subscribe(ask("failing", ordered="true"), failing)
        await held.count(1)
        await publish(broker, "old-2", topic="other", partitionKey="k")
        clock.ahead = 3500
        await publish(broker, "young")
        await two.pause()
        await failing.until(lambda: not failing.running)
        clock.ahead = 3700
        assert await broker._sweeper.sweep() == 1
        assert rows(tmp_path / "p.db", "SELECT topic FROM messages ORDER BY id") == [("orders",), ("orders",)]
        held.gate.set()
        await drained(one)
        await until(lambda: swept(broker))
        assert rows(tmp_path / "p.db", "SELECT CAST(data AS TEXT) FROM messages") == [("young",)]
        await two.resume()
        await drained(two)
        assert rows(tmp_path / "p.db", "SELECT bytes FROM totals") == [(5,)]
        assert failing.texts[-1] == "young"


async def swept(broker) -> bool:
    return await broker._sweeper.sweep() > 0


async def test_retention_of_a_key(tmp_path):
    """When the message at the head of a key is removed by its age, the next one of the key is delivered."""
    clock = HandClock()
    async with sqlite_broker(tmp_path / "p.db", clock, retention="1h") as broker:
        inbox = Inbox(lambda m: Outcome.RELEASED)
        inbox.gate.clear()
        await publish(broker, "old", partitionKey="k")
        subscription = await broker.subscribe(ask(ordered="true"), inbox)
        await inbox.count(1)
        clock.ahead = 3500
        await publish(broker, "young", "younger", partitionKey="k")
        await until(lambda: blocked(tmp_path / "p.db", 2))
        await subscription.pause()
        inbox.gate.set()
        await until(lambda: blocked(tmp_path / "p.db", 2, free=1))
        clock.ahead = 3700
        assert await broker._sweeper.sweep() == 1
        inbox.answer = lambda m: Outcome.ACCEPTED
        await subscription.resume()
        await drained(subscription)
        assert inbox.texts == ["old", "young", "younger"]


async def blocked(path, number: int, free: int = 0) -> bool:
    found = dict(rows(path, "SELECT owner, count(*) FROM deliveries GROUP BY owner"))
    return found.get(-1, 0) == number and found.get(0, 0) == free


async def test_clock_that_jumps(tmp_path):
    """A time of day that jumps ahead removes nothing by age, holds up no delivery and no redelivery."""
    clock = HandClock()
    wall = clock.now
    jump = 0

    def now():
        from datetime import timedelta

        return wall() + timedelta(days=jump)

    clock.now = now  # the other clock goes on as before
    async with sqlite_broker(tmp_path / "p.db", clock, **QUICK) as broker:
        inbox = Inbox(lambda m: Outcome.RETRY if m.deliveries == 1 else Outcome.ACCEPTED)
        await publish(broker, "a")
        subscription = await broker.subscribe(ask(), inbox)
        await inbox.count(1)
        for jump in (3650, -3650, 0, 3650):
            await publish(broker, str(jump))
            await broker._sweeper.sweep()
        await drained(subscription)
        assert sorted(set(inbox.texts)) == ["-3650", "0", "3650", "a"]
        late = Inbox()
        await drained(await broker.subscribe(ask("late"), late))
        assert set(late.texts) == {"a", "3650", "-3650", "0"}
        jump = 0
        assert await broker._sweeper.sweep() == 0
        clock.ahead = 700  # it has been right for a while
        await broker._sweeper.sweep()
        assert rows(tmp_path / "p.db", "SELECT CAST(data AS TEXT) FROM messages ORDER BY id") == [
            ("a",),
            ("3650",),
            ("0",),
            ("3650",),
        ]


async def test_expired_messages_are_removed(tmp_path):
    """What has expired is removed by the next sweep and is pending for nobody."""
    clock = HandClock()
    async with sqlite_broker(tmp_path / "p.db", clock) as broker:
        subscription = await broker.subscribe(ask(), Inbox())
        await subscription.pause()
        await publish(broker, "a", ttlInSeconds="10")
        await publish(broker, "b")
        assert await subscription.pending() == 2
        clock.ahead = 11
        assert await subscription.pending() == 1
        assert await broker._sweeper.sweep() == 1
        assert await subscription.pending() == 1
        assert rows(tmp_path / "p.db", "SELECT bytes FROM totals") == [(1,)]


# Size ----------------------------------------------------------------------------------------------------------------


async def test_max_size(tmp_path):
    """Past maxSize publishing is refused and says what to do; what all groups have done makes room, oldest first."""
    path = tmp_path / "p.db"
    async with sqlite_broker(path, maxSize="1000") as broker:
        inbox = Inbox()
        inbox.gate.clear()
        subscription = await broker.subscribe(ask(most=1), inbox)
        for number in range(10):
            await broker.publish(PublishRequest("orders", b"%d" % number * 100))
        with pytest.raises(BrokerFullError, match=r"holds maxSize \(1000 bytes\).*raise maxSize, or lower retention"):
            await publish(broker, "x")
        failures = await broker.bulk_publish("orders", [BulkEntry("1", b"x"), BulkEntry("2", b"")], {})
        assert [failure.entry_id for failure in failures] == ["1"]
        inbox.gate.set()
        await drained(subscription)
        broker._sweeper._no_room_until = 0
        await broker.publish(PublishRequest("orders", b"y" * 150))
        left = rows(path, "SELECT substr(CAST(data AS TEXT), 1, 1) FROM messages ORDER BY id")
        assert ("0",) not in left
        assert left[-1] == ("y",)
        assert rows(path, "SELECT bytes, (SELECT sum(length(data)) FROM messages) FROM totals")[0][0] <= 1000
        assert rows(path, "SELECT bytes = (SELECT sum(length(data)) FROM messages) FROM totals") == [(1,)]


async def test_message_larger_than_max_size(tmp_path):
    """A message that would never fit is refused as such, and removes nothing."""
    async with sqlite_broker(tmp_path / "p.db", maxSize="100") as broker:
        await publish(broker, "a")
        with pytest.raises(BackendError, match=r"the message is larger \(101 bytes\) than maxSize \(100 bytes\)"):
            await publish(broker, "x" * 101)
        failures = await broker.bulk_publish("orders", [BulkEntry("1", bytes(101)), BulkEntry("2", b"b")], {})
        assert [failure.entry_id for failure in failures] == ["1"]
        assert rows(tmp_path / "p.db", "SELECT bytes FROM totals") == [(2,)]


async def test_full_of_messages_for_nobody(tmp_path):
    """Messages of a topic without a group are not removed to make room: somebody may subscribe to them yet."""
    async with sqlite_broker(tmp_path / "p.db", maxSize="100") as broker:
        await broker.publish(PublishRequest("orders", b"x" * 100))
        with pytest.raises(BrokerFullError):
            await publish(broker, "y")
        inbox = Inbox()
        await drained(await broker.subscribe(ask(), inbox))
        assert inbox.texts == ["x" * 100]
        broker._sweeper._no_room_until = 0
        await publish(broker, "y")
        assert await inbox.count(2) == ["x" * 100, "y"]


async def test_stuck_message_pins_itself_only(tmp_path):
    """A message that is not done stays when room is made; those behind it that are done go."""
    async with sqlite_broker(tmp_path / "p.db", maxSize="300", redeliverInterval="60s") as broker:
        inbox = Inbox(lambda m: Outcome.RETRY if m.data[:1] == b"0" else Outcome.ACCEPTED)
        subscription = await broker.subscribe(ask(), inbox)
        for number in range(3):
            await broker.publish(PublishRequest("orders", b"%d" % number * 100))
        await inbox.count(3)
        await until(lambda: pending_is(subscription, 1))
        await broker.publish(PublishRequest("orders", b"3" * 100))
        await inbox.count(4)
        left = rows(tmp_path / "p.db", "SELECT substr(CAST(data AS TEXT), 1, 1) FROM messages ORDER BY id")
        assert ("0",) in left
        assert ("1",) not in left


async def pending_is(subscription, number: int) -> bool:
    return await subscription.pending() == number


async def test_refused_publishers_cost_little(tmp_path):
    """While nothing can be removed, refused publishers do not each look through the file."""
    async with sqlite_broker(tmp_path / "p.db", maxSize="1") as broker:
        await publish(broker, "x")
        looks: list[None] = []
        sweep = broker._sweeper.sweep

        async def counted():
            looks.append(None)
            return await sweep()

        broker._sweeper.sweep = counted
        results = await asyncio.gather(*(publish(broker, "y") for _ in range(50)), return_exceptions=True)
        results += await asyncio.gather(*(publish(broker, "y") for _ in range(50)), return_exceptions=True)
        assert all(isinstance(result, BrokerFullError) for result in results)
        assert len(looks) == 1


# The file ------------------------------------------------------------------------------------------------------------


async def test_version_is_kept(tmp_path):
    """The file says whose it is and of which version; a newer one is refused and left as it is."""
    path = tmp_path / "p.db"
    async with sqlite_broker(path) as broker:
        await publish(broker, "a")
    assert rows(path, "PRAGMA application_id") == [(LAYOUT.application,)]
    assert rows(path, "PRAGMA user_version") == [(LAYOUT.version,)]
    rows(path, f"PRAGMA user_version = {LAYOUT.version + 1}")
    with pytest.raises(BackendError, match=r"written by a newer dapr-shared \(layout 2, this one knows 1\): upgrade"):
        async with sqlite_broker(path):
            pass
    assert rows(path, "SELECT count(*) FROM messages") == [(1,)]
    assert rows(path, "PRAGMA user_version") == [(LAYOUT.version + 1,)]


async def test_file_of_others(tmp_path):
    """The file of a state store, or of anything else, is refused; so is ours by nobody else's layout."""
    async with sqlite_store(tmp_path / "s.db"):
        pass
    with pytest.raises(BackendError, match=r"used by something else: give pubsub\.sqlite a file of its own"):
        async with sqlite_broker(tmp_path / "s.db"):
            pass


async def test_missing_table(tmp_path):
    """A file that lost a table is refused, not mended silently."""
    async with sqlite_broker(tmp_path / "p.db"):
        pass
    rows(tmp_path / "p.db", "DROP TABLE groups")
    with pytest.raises(BackendError, match="not whole: it has no table groups; restore a backup"):
        async with sqlite_broker(tmp_path / "p.db"):
            pass


async def test_no_database(tmp_path):
    """A file that is no database is refused and left as it is."""
    content = b"somebody needs this\n" * 500
    (tmp_path / "p.db").write_bytes(content)
    with pytest.raises(BackendError, match=r"p\.db is no SQLite database, or is encrypted; it was left as it is"):
        async with sqlite_broker(tmp_path / "p.db"):
            pass
    assert (tmp_path / "p.db").read_bytes() == content


async def test_damaged_file(tmp_path):
    """A damaged file is an error of publishing and of the ping, never made anew."""
    path = tmp_path / "p.db"
    async with sqlite_broker(path) as broker:
        await broker.bulk_publish("orders", [BulkEntry(str(n), bytes(500)) for n in range(3000)], {})
    content = bytearray(path.read_bytes())
    for page in range(12, len(content) // 4096):
        content[page * 4096 : page * 4096 + 100] = b"\xff" * 100
    path.write_bytes(content)
    async with sqlite_broker(path) as broker:
        await broker.subscribe(ask(), Inbox())

        async def told() -> bool:
            try:
                await broker.ping()
            except BackendError as error:
                return "is damaged and was left as it is: restore a backup" in str(error)
            return False

        await until(told)
        with pytest.raises(BackendError, match="is damaged and was left as it is"):
            await publish(broker, *("x" * 100))
    assert path.stat().st_size >= len(content)


async def test_full_disk(tmp_path):
    """On a full disk publishing says so, and everything that was acknowledged before and after is delivered."""
    disk = tmp_path / "disk"
    answered: list[str] = []
    refused = 0
    with small_disk(disk, 2048) as mounted:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        async with sqlite_broker(disk / "p.db", **QUICK) as broker:
            inbox = Inbox(lambda m: Outcome.RETRY if m.deliveries == 1 else Outcome.ACCEPTED)
            await publish(broker, "first")
            try:
                if not mounted:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * 1024 * 1024, hard))
                await broker.subscribe(ask(), inbox)
                for number in range(400):
                    text = f"{number}-" + "x" * 10_000
                    try:
                        await publish(broker, text)
                        answered.append(text)
                    except BackendError as error:
                        assert "full" in str(error) or "disk failed" in str(error)  # noqa: PT017
                        refused += 1
                        if refused > 5:
                            break
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert refused
            if mounted:
                import subprocess

                subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)  # noqa: ASYNC221
            await publish(broker, "last")
            await inbox.until(lambda: {*answered, "first", "last"} <= set(inbox.texts))


async def test_half_a_character(tmp_path):
    """Text that no file can hold is a `BackendError`, and disturbs nobody else."""
    async with sqlite_broker(tmp_path / "p.db") as broker:
        bad = "\ud800"
        calls = [
            broker.publish(PublishRequest(bad, b"x")),
            broker.publish(PublishRequest("t", b"x", bad)),
            broker.publish(PublishRequest("t", b"x", "", {"k": bad})),
            broker.publish(PublishRequest("t", b"x", "", {bad: "v"})),
            broker.subscribe(ask(topic=bad), Inbox()),
            broker.subscribe(ask(bad), Inbox()),
            publish(broker, "fine", topic="a\0b"),
        ]
        *results, fine = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, BackendError) for result in results), results
        assert fine is None


async def test_locked_file(tmp_path):
    """While another program locks the file too long, publishing says so, and deliveries go on afterwards."""
    path = tmp_path / "p.db"
    async with sqlite_broker(path, busyTimeout="50ms", **QUICK) as broker:
        inbox = Inbox()
        inbox.gate.clear()
        subscription = await broker.subscribe(ask(), inbox)
        await publish(broker, "a")
        await inbox.count(1)
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendUnavailableError, match="was locked by another process for longer than busyTimeout"):
            await publish(broker, "b")
        inbox.gate.set()
        await inbox.until(lambda: not inbox.running)
        with pytest.raises(BackendUnavailableError):
            await subscription.pending()
        other.execute("COMMIT")
        other.close()
        await publish(broker, "c")
        await drained(subscription)
        assert inbox.texts == ["a", "c"]


# Cost ----------------------------------------------------------------------------------------------------------------


async def test_publishers_share_commits(tmp_path):
    """Messages that are published at the same time are committed together, and so are their acknowledgements."""
    commits: list[int] = []
    async with sqlite_broker(tmp_path / "p.db") as broker:
        database = broker._opened.database
        await database.write(lambda cursor: cursor.connection.set_commit_hook(lambda: bool(commits.append(1))))
        await asyncio.gather(*(publish(broker, str(number)) for number in range(500)))
        assert len(commits) <= 20
        commits.clear()
        inbox = Inbox()
        await drained(await broker.subscribe(ask(most=500), inbox))
        assert len(inbox.texts) == 500
        assert len(commits) <= 40


async def test_idle_groups_write_nothing(tmp_path):
    """A thousand groups that wait cost no call to the file, also while another topic is busy."""
    async with sqlite_broker(tmp_path / "p.db") as broker:
        for number in range(1000):
            await broker.subscribe(ask(f"app-{number}", topic=f"idle-{number % 50}"), Inbox())
        inbox = Inbox()
        busy = await broker.subscribe(ask(topic="busy"), inbox)
        database = broker._opened.database
        calls: list[object] = []
        write = database.write
        database.write = lambda work, **options: calls.append(work) or write(work, **options)
        await publish(broker, *map(str, range(20)), topic="busy")
        await drained(busy)
        assert len(calls) <= 100


async def test_read_ahead_is_bounded(tmp_path):
    """Of a large backlog a group takes no more than it has room for, and some ahead."""
    async with sqlite_broker(tmp_path / "p.db") as broker:
        entries = [BulkEntry(str(number), b"x" * 1000) for number in range(2000)]
        await broker.bulk_publish("orders", entries, {})
        inbox = Inbox()
        inbox.gate.clear()
        subscription = await broker.subscribe(ask(most=10), inbox)
        await inbox.count(10)
        assert await subscription.pending() == 2000
        assert rows(tmp_path / "p.db", "SELECT count(*) FROM deliveries")[0][0] <= 20


async def test_large_messages_come_in_small_batches(tmp_path, monkeypatch):
    """However many messages there is room for, one batch holds little more payload than its bound, also of returned ones."""
    monkeypatch.setattr("dapr_shared.components.sqlite.pubsub_statements.BATCH_BYTES", 50_000)
    batches: list[int] = []
    take = statements.take

    def measured(claim, cursor):
        batch = take(claim, cursor)
        batches.append(sum(len(message.data) for message in batch.messages))
        return batch

    monkeypatch.setattr(statements, "take", measured)
    async with sqlite_broker(tmp_path / "p.db") as broker:
        await publish(broker, *(str(number) * 20_000 for number in range(10, 40)))
        inbox = Inbox()
        inbox.gate.clear()
        subscription = await broker.subscribe(ask(), inbox)
        await inbox.count(30)
        await subscription.stop(0)
        inbox.gate.set()
        await drained(await broker.subscribe(ask(), inbox))
        assert len(inbox.messages) == 60
        assert max(batches) < 100_000


async def test_many_failures_are_bounded(tmp_path, monkeypatch):
    """When very many messages wait for their next delivery, no further ones are taken until some are due."""
    monkeypatch.setattr("dapr_shared.components.sqlite.pubsub_group.MOST_FAILED", 50)
    async with sqlite_broker(tmp_path / "p.db", redeliverInterval="300ms", maxRedeliverInterval="300ms") as broker:
        entries = [BulkEntry(str(number), str(number).encode()) for number in range(500)]
        await broker.bulk_publish("orders", entries, {})
        inbox = Inbox(lambda m: Outcome.RETRY if m.deliveries == 1 else Outcome.ACCEPTED)
        subscription = await broker.subscribe(ask(most=10), inbox)
        await inbox.count(50)
        await inbox.until(lambda: not inbox.running)
        assert rows(tmp_path / "p.db", "SELECT count(*) FROM deliveries")[0][0] <= 100
        await drained(subscription)
        assert len(inbox.texts) == 1000


async def test_contradictory_order(tmp_path):
    """Two subscriptions of one group must agree on `ordered`; the second is refused and says so."""
    async with sqlite_broker(tmp_path / "p.db") as broker:
        await broker.subscribe(ask(ordered="true"), Inbox())
        with pytest.raises(
            BackendError, match="subscribed to orders with ordered: true: all its subscriptions must say"
        ):
            await broker.subscribe(ask(), Inbox())
