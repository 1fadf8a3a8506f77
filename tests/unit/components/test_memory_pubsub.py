"""pubsub.in-memory: its bounds, and when a group ends."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from dapr_shared.components.memory.pubsub import MemoryPubSub
from dapr_shared.contracts.component import ComponentContext
from dapr_shared.contracts.pubsub import BrokerFullError, BulkEntry, Outcome
from dapr_shared.contracts.settings import decode_settings
from tests.support.component_pubsub import Inbox, ask, drained, publish
from tests.support.component_setups import until


@asynccontextmanager
async def memory_broker(**metadata: str):
    settings = decode_settings(MemoryPubSub.settings_type, metadata)
    broker = MemoryPubSub(settings, ComponentContext("m", "pubsub.in-memory"))
    async with AsyncExitStack() as stack:
        await broker.start(stack)
        yield broker


def held(answer: Outcome = Outcome.ACCEPTED) -> Inbox:
    inbox = Inbox(lambda m: answer)
    inbox.gate.clear()
    return inbox


async def test_full_group():
    """Past maxPending publishing is refused, by the name of the group, for all groups of the topic, and works again."""
    async with memory_broker(maxPending="3") as broker:
        slow, fast = held(), Inbox()
        subscription = await broker.subscribe(ask("slow"), slow)
        await broker.subscribe(ask("fast"), fast)
        await publish(broker, *"abc")
        with pytest.raises(
            BrokerFullError, match=r"the group slow has 3 messages waiting on the topic orders, which is"
        ):
            await publish(broker, "d")
        await publish(broker, "x", topic="other")
        failures = await broker.bulk_publish("orders", [BulkEntry("1", b"d"), BulkEntry("2", b"e")], {})
        assert [type(failure.error) for failure in failures] == [BrokerFullError] * 2
        assert await fast.count(3) == [*"abc"]
        slow.gate.set()
        await drained(subscription)
        await publish(broker, "e")
        assert await fast.count(4) == [*"abce"]


async def test_no_group():
    """Without a group nothing is kept, and publishing succeeds."""
    async with memory_broker(maxPending="1") as broker:
        await publish(broker, *"abc")
        inbox = Inbox()
        await broker.subscribe(ask(), inbox)
        await publish(broker, "d")
        assert await inbox.count(1) == ["d"]


async def test_group_without_subscriptions():
    """A group that nobody is subscribed to keeps its messages for a while, then it and they are forgotten."""
    async with memory_broker(groupTimeout="50ms", maxPending="2") as broker:
        subscription = await broker.subscribe(ask(), held())
        await subscription.stop(0)
        await publish(broker, "a")
        inbox = Inbox()
        subscription = await broker.subscribe(ask(), inbox)
        assert await inbox.count(1) == ["a"]
        await subscription.stop(1)
        await publish(broker, "b", "c")
        with pytest.raises(BrokerFullError):
            await publish(broker, "d")
        await until(lambda: forgotten(broker))
        await publish(broker, *"defg")
        again = Inbox()
        await broker.subscribe(ask(), again)
        await publish(broker, "h")
        assert await again.count(1) == ["h"]


async def forgotten(broker) -> bool:
    return not (broker._groups or broker._by_prefix or broker._by_topic)


async def test_wildcard_groups_end():
    """A group of a prefix is forgotten like any other, and exact topics are not taken for prefixes."""
    async with memory_broker(groupTimeout="0s") as broker:
        inbox = Inbox()
        subscription = await broker.subscribe(ask(topic="a*"), inbox)
        await publish(broker, "1", topic="ab")
        await inbox.count(1)
        await subscription.stop(1)
        await until(lambda: forgotten(broker))
        await publish(broker, "2", topic="ab")
        exact = Inbox()
        await broker.subscribe(ask(topic="a"), exact)
        await publish(broker, "3", topic="ab")
        await publish(broker, "4", topic="a")
        assert await exact.count(1) == ["4"]
        assert inbox.texts == ["1"]


async def test_failed_messages_count_as_pending():
    """Messages that wait for their next delivery count towards the bound."""
    async with memory_broker(maxPending="2", redeliverInterval="60s") as broker:
        inbox = Inbox(lambda m: Outcome.RETRY)
        subscription = await broker.subscribe(ask(), inbox)
        await publish(broker, "a", "b")
        await inbox.count(2)
        await inbox.until(lambda: not inbox.running)
        assert await subscription.pending() == 2
        with pytest.raises(BrokerFullError):
            await publish(broker, "c")
