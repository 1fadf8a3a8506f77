"""`pubsub.redis`: what is in the server, as daprd writes and reads it, and what other instances find there."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import BulkEntry, Outcome, PublishRequest
from tests.support.component_pubsub import Inbox, ask, drained, publish
from tests.support.redis_components import opened


@pytest.fixture
def redis(server, database):
    """Runs a command in the test's database; the lines that redis-cli prints."""
    return lambda *words: server.command(*words, db=database).splitlines()


@pytest.fixture
def broker_at(server, database):
    """Opens a broker at the test's database."""
    return lambda **metadata: opened("pubsub.redis", server, redisDB=str(database), **metadata)


async def eventually(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - a server sends no event
            await asyncio.sleep(0.02)


async def test_a_message_is_an_entry_of_its_topic(broker_at, redis):
    """A message is an entry of the stream called like its topic: data, metadata as JSON, and our own contentType."""
    async with broker_at() as broker:
        await broker.publish(PublishRequest("orders", b'{"id":"1"}', "", {"rawPayload": "true"}))
        await broker.publish(PublishRequest("orders", b"2", "text/plain"))
    lines = redis("XRANGE", "orders", "-", "+")
    assert lines[1:5] == ["data", '{"id":"1"}', "metadata", '{"rawPayload":"true"}']
    assert lines[6:] == ["data", "2", "contentType", "text/plain"]


async def test_what_daprd_published_is_delivered(broker_at, redis):
    """Entries of daprd's making are delivered with their metadata, from the oldest on; broken metadata is left out."""
    redis("XADD", "orders", "*", "data", "1", "metadata", json.dumps({"k": "v"}))
    redis("XADD", "orders", "*", "metadata", "no json", "data", "2")
    redis("XADD", "orders", "*", "data", "3")
    inbox = Inbox()
    async with broker_at() as broker:
        await drained(await broker.subscribe(ask(most=1), inbox))
    assert [(m.data, m.metadata, m.content_type) for m in inbox.messages] == [
        (b"1", {"k": "v"}, ""),
        (b"2", {}, ""),
        (b"3", {}, ""),
    ]
    assert redis("XLEN", "orders") == ["3"]


async def test_a_group_of_daprds_goes_on(broker_at, redis):
    """A group that daprd has made goes on where it was, and what its dead consumer had is claimed and counts."""
    for text in "abc":
        redis("XADD", "orders", "*", "data", text)
    redis("XGROUP", "CREATE", "orders", "app", "0")
    redis("XREADGROUP", "GROUP", "app", "app", "COUNT", "1", "STREAMS", "orders", ">")
    done = redis("XREADGROUP", "GROUP", "app", "app", "COUNT", "1", "STREAMS", "orders", ">")[1]
    redis("XACK", "orders", "app", done)
    inbox = Inbox()
    async with broker_at(processingTimeout="300", redeliverInterval="50") as broker:
        await drained(await broker.subscribe(ask(), inbox))
    assert sorted((m.data, m.deliveries) for m in inbox.messages) == [(b"a", 2), (b"c", 1)]


async def test_trimming(broker_at, redis):
    """`maxLenApprox` and `streamTTL` trim a stream while it is published to, about; without them all is kept."""
    entries = [BulkEntry(str(number), b"x") for number in range(1000)]
    async with broker_at(maxLenApprox="100") as broker:
        assert await broker.bulk_publish("short", entries, {}) == []
    async with broker_at() as broker:
        assert await broker.bulk_publish("old", entries, {}) == []
    assert 100 <= int(redis("XLEN", "short")[0]) < 300
    assert redis("XLEN", "old") == ["1000"]
    async with broker_at(streamTTL="1s") as broker:
        await asyncio.sleep(1.1)
        await broker.bulk_publish("old", entries, {})
    assert 1000 <= int(redis("XLEN", "old")[0]) < 1200


async def test_trimmed_entries_of_a_dead_consumer(broker_at, redis):
    """What was trimmed while a dead consumer had it is taken off the group's list."""
    redis("XADD", "orders", "1-1", "data", "gone")
    redis("XADD", "orders", "1-2", "data", "there")
    redis("XGROUP", "CREATE", "orders", "app", "0")
    redis("XREADGROUP", "GROUP", "app", "dead", "STREAMS", "orders", ">")
    redis("XDEL", "orders", "1-1")
    inbox = Inbox()
    async with broker_at(processingTimeout="100", redeliverInterval="50") as broker:
        subscription = await broker.subscribe(ask(), inbox)
        await inbox.count(1)
        await drained(subscription)
    assert inbox.texts == ["there"]


async def test_signs_of_life(broker_at):
    """What a living instance works on is not given to another one, however long it takes."""
    slow, other = Inbox(), Inbox()
    slow.gate.clear()
    times = {"processingTimeout": "300", "redeliverInterval": "50"}
    async with broker_at(**times) as one, broker_at(**times) as two:
        await one.subscribe(ask(most=1), slow)
        await publish(one, "slow")
        await slow.count(1)
        subscription = await two.subscribe(ask(), other)
        await publish(two, *(str(number) for number in range(5)))
        await asyncio.sleep(1.0)
        assert "slow" not in other.texts
        slow.gate.set()
        await drained(subscription)
    assert slow.texts.count("slow") == 1
    assert sorted(slow.texts + other.texts) == ["0", "1", "2", "3", "4", "slow"]


async def test_a_paused_instance_gives_back(broker_at):
    """While one instance cannot reach the app, another one gets what the first had fetched, uncounted."""
    stuck, other = Inbox(lambda m: Outcome.RELEASED), Inbox()
    stuck.gate.clear()
    async with broker_at(redeliverInterval="50") as one, broker_at(redeliverInterval="50") as two:
        subscription = await one.subscribe(ask(most=2), stuck)
        await publish(one, *"abcd")
        await stuck.count(2)
        await subscription.pause()
        stuck.gate.set()
        await drained(await two.subscribe(ask(), other))
    assert sorted(other.texts) == [*"abcd"]
    assert all(message.deliveries == 1 for message in other.messages)


async def test_no_redelivery(broker_at, redis):
    """With redeliverInterval 0 a failed message stays on the group's list; what was given back comes again."""
    inbox = Inbox(lambda m: Outcome.RETRY if m.data == b"bad" else Outcome.ACCEPTED)
    async with broker_at(redeliverInterval="0") as broker:
        subscription = await broker.subscribe(ask(), inbox)
        await publish(broker, "bad", "good")
        await inbox.count(2)
        await asyncio.sleep(0.3)
        assert await subscription.pending() == 1
        inbox.gate.clear()
        await publish(broker, "cut off")
        await inbox.count(3)
    assert inbox.texts == ["bad", "good", "cut off"]
    after = Inbox()
    async with broker_at(redeliverInterval="0") as broker:
        await broker.subscribe(ask(), after)
        await after.count(1)
        await publish(broker, "new")
        await after.count(2)
    assert [(m.data, m.deliveries) for m in after.messages] == [(b"cut off", 1), (b"new", 1)]


@pytest.mark.parametrize("topics", [("orders",), ("orders", "bills")])
async def test_topics_that_are_busy_are_not_watched(broker_at, redis, topics):
    """Messages that a group has no room for are not read one by one; what comes after them is delivered at once."""

    def reads() -> int:
        found = re.search(r"cmdstat_xread:calls=(\d+)", "\n".join(redis("INFO", "commandstats")))
        return int(found[1]) if found else 0

    inboxes = {topic: Inbox() for topic in topics}
    async with broker_at() as broker:
        subscriptions = [await broker.subscribe(ask(topic=topic, most=1), inbox) for topic, inbox in inboxes.items()]
        for topic, inbox in inboxes.items():
            inbox.gate.clear()
            await publish(broker, *map(str, range(10)), topic=topic)
            await inbox.count(1)
        before = reads()
        for number in range(10, 100):
            for topic in topics:
                await publish(broker, str(number), topic=topic)
        assert reads() - before < 20
        for inbox, subscription in zip(inboxes.values(), subscriptions, strict=True):
            inbox.gate.set()
            await drained(subscription)
        for number in range(100, 105):
            async with asyncio.timeout(1):  # a wait at the server takes two seconds
                for topic, inbox in inboxes.items():
                    await publish(broker, str(number), topic=topic)
                    await inbox.count(number + 1)
    assert all(inbox.texts == list(map(str, range(105))) for inbox in inboxes.values())


async def test_consumers_leave_no_names(broker_at, redis):
    """An instance that ends takes its consumer's name off the group, unless it still has messages there."""
    async with broker_at() as broker:
        await drained(await broker.subscribe(ask(), Inbox()))
        assert len(redis("XINFO", "CONSUMERS", "orders", "app")) > 0
    assert redis("XINFO", "CONSUMERS", "orders", "app") in ([], [""])


async def test_limits(broker_at):
    """No more than `concurrency` messages are with the app, and no more than `queueDepth` are fetched."""
    inbox = Inbox()
    inbox.gate.clear()
    async with broker_at(concurrency="3", queueDepth="5") as broker:
        await broker.subscribe(ask(), inbox)
        await broker.bulk_publish("orders", [BulkEntry(str(n), str(n).encode()) for n in range(50)], {})
        await inbox.count(3)
        other = Inbox()
        async with broker_at() as second:
            await second.subscribe(ask(), other)
            await other.count(45)
        inbox.gate.set()
        await inbox.count(5)
    assert inbox.most_running == 3
    assert len(inbox.texts + other.texts) == 50


async def test_a_topic_is_no_key_of_an_app(broker_at, redis):
    """A topic with two bars would put a stream where another app's value belongs: it is refused, and nothing is written."""
    async with broker_at() as broker:
        with pytest.raises(BackendError, match="must not contain"):
            await broker.publish(PublishRequest("stock||cart", b"1"))
        failures = await broker.bulk_publish("stock||cart", [BulkEntry("1", b"1")], {})
        assert [failure.entry_id for failure in failures] == ["1"]
        with pytest.raises(BackendError, match="must not contain"):
            await broker.subscribe(ask(topic="stock||cart"), Inbox())
    assert redis("EXISTS", "stock||cart") == ["0"]
