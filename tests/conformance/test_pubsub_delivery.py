"""Brokers: what is delivered to whom, how often, in which order and how many at a time."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from dapr_shared.contracts.pubsub import BulkEntry, Outcome, PublishRequest, PubSubCapability
from tests.support.component_pubsub import Inbox, ask, drained, publish


async def test_message_arrives_whole(broker):
    """A message arrives with its topic, bytes, content type and metadata, as its first delivery."""
    inbox = Inbox()
    subscription = await broker.subscribe(ask(topic="ord/ers-ü"), inbox)
    request = PublishRequest("ord/ers-ü", bytes(range(256)), "application/x-ü", {"rawPayload": "true", "Ä": "ö 1"})
    await broker.publish(request)
    await inbox.count(1)
    (message,) = inbox.messages
    assert (message.topic, message.data, message.content_type) == (request.topic, request.data, request.content_type)
    assert message.metadata == request.metadata
    assert message.deliveries == 1
    await drained(subscription)


@pytest.mark.parametrize("size", [0, 1, 5 * 1024 * 1024])
async def test_sizes(broker, size):
    """Empty and large payloads are delivered."""
    inbox = Inbox()
    await broker.subscribe(ask(), inbox)
    await broker.publish(PublishRequest("orders", b"x" * size))
    await inbox.count(1)
    assert inbox.messages[0].data == b"x" * size


async def test_accepted_is_done(broker):
    """A message that was accepted is not delivered again, and nothing is pending."""
    inbox = Inbox()
    subscription = await broker.subscribe(ask(), inbox)
    await publish(broker, *(str(number) for number in range(50)))
    await inbox.count(50)
    await drained(subscription)
    await publish(broker, "last")
    await inbox.until(lambda: "last" in inbox.texts)
    assert Counter(inbox.texts) == Counter([*(str(number) for number in range(50)), "last"])


async def test_retry(broker):
    """A failed message comes again, counted each time, until it is accepted; the others are not held up."""
    inbox = Inbox(lambda m: Outcome.RETRY if m.data == b"bad" and m.deliveries < 4 else Outcome.ACCEPTED)
    subscription = await broker.subscribe(ask(), inbox)
    await broker.publish(PublishRequest("orders", b"bad", "text/x", {"k": "v"}))
    await publish(broker, "good")
    await inbox.until(lambda: inbox.texts.count("bad") == 4)
    bad = [message for message in inbox.messages if message.data == b"bad"]
    assert [message.deliveries for message in bad] == [1, 2, 3, 4]
    assert all((message.content_type, message.metadata) == ("text/x", {"k": "v"}) for message in bad)
    assert inbox.texts.count("good") == 1
    assert inbox.texts.index("good") < len(inbox.texts) - 1
    await drained(subscription)


async def test_handler_that_raises(broker):
    """A handler that breaks its promise not to raise counts as failed."""

    def answer(message):
        if message.deliveries == 1:
            raise RuntimeError("broken")
        return Outcome.ACCEPTED

    inbox = Inbox(answer)
    subscription = await broker.subscribe(ask(), inbox)
    await publish(broker, "a")
    await inbox.count(2)
    await drained(subscription)


async def test_released_without_pause(broker):
    """A released message comes again uncounted, after a moment, also where nobody pauses and resumes."""
    answers = [Outcome.RELEASED]
    inbox = Inbox(lambda m: answers.pop() if answers else Outcome.ACCEPTED)
    subscription = await broker.subscribe(ask(), inbox)
    await publish(broker, "a")
    await inbox.count(2)
    assert [message.deliveries for message in inbox.messages] == [1, 1]
    await drained(subscription)


@pytest.mark.parametrize("most", [1, 3])
async def test_released_and_paused(broker, most):
    """What is released while the subscription pauses waits for its end, uncounted and at its old place."""
    inbox = Inbox(lambda m: Outcome.RELEASED)
    inbox.gate.clear()
    subscription = await broker.subscribe(ask(most=most), inbox)
    await publish(broker, *"abcdef")
    await inbox.count(most)
    await subscription.pause()
    inbox.gate.set()
    await inbox.until(lambda: not inbox.running)
    assert await subscription.pending() in (6, None)
    first = [*"abc"][:most]
    assert inbox.texts == first
    inbox.answer = lambda m: Outcome.ACCEPTED
    await subscription.resume()
    await drained(subscription)
    assert inbox.texts[most:] == [*"abcdef"] or most > 1
    assert sorted(inbox.texts[most:]) == [*"abcdef"]
    assert all(message.deliveries == 1 for message in inbox.messages)


async def test_each_group_gets_all(broker):
    """Two apps on one topic each get every message; one that fails or is slow does not disturb the other."""
    good, bad = Inbox(), Inbox(lambda m: Outcome.RETRY)
    first = await broker.subscribe(ask("good"), good)
    second = await broker.subscribe(ask("bad"), bad)
    texts = [str(number) for number in range(100)]
    await publish(broker, *texts)
    assert sorted(await good.count(100)) == sorted(texts)
    await bad.until(lambda: set(bad.texts) == set(texts))
    await drained(first)
    assert await second.pending() in (100, None)


async def test_members_share(broker):
    """Two subscriptions of one group share its messages: each is delivered once, and both get some."""
    first, second = Inbox(), Inbox()
    for inbox in (first, second):
        inbox.gate.clear()
        await broker.subscribe(ask(most=5), inbox)
    texts = [str(number) for number in range(100)]
    await publish(broker, *texts)
    await first.count(5)
    await second.count(5)
    first.gate.set()
    second.gate.set()
    async with asyncio.timeout(10):
        while len(first.messages) + len(second.messages) < 100:  # noqa: ASYNC110 - the last may come to either
            await asyncio.sleep(0.01)
    assert Counter(first.texts + second.texts) == Counter(texts)


async def test_member_that_stops_leaves_the_rest(broker):
    """What a stopped member has not finished goes to the other one of its group, uncounted."""
    stuck, other = Inbox(), Inbox()
    stuck.gate.clear()
    subscription = await broker.subscribe(ask(most=10), stuck)
    await publish(broker, *(str(number) for number in range(30)))
    await stuck.count(10)
    await broker.subscribe(ask(), other)
    await subscription.stop(0)
    await other.count(30)
    assert Counter(other.texts) == Counter(str(number) for number in range(30))
    assert all(message.deliveries == 1 for message in other.messages)


async def test_topics_are_apart(broker):
    """A group gets the messages of the topics that it subscribes to, and no others."""
    orders, mails = Inbox(), Inbox()
    await broker.subscribe(ask(topic="orders"), orders)
    await broker.subscribe(ask(topic="mails"), mails)
    await publish(broker, "o", topic="orders")
    await publish(broker, "n", topic="order")
    await publish(broker, "m", topic="mails")
    await orders.count(1)
    await mails.count(1)
    assert (orders.texts, mails.texts) == (["o"], ["m"])


async def test_new_group(broker, broker_harness):
    """A new group begins where the adapter says: at the oldest message that is kept, or at the next one."""
    await publish(broker, "early")
    inbox = Inbox()
    await broker.subscribe(ask(), inbox)
    await publish(broker, "late")
    expected = ["early", "late"] if broker_harness.setup.keeps_unread else ["late"]
    await inbox.until(lambda: "late" in inbox.texts)
    assert inbox.texts == expected


async def test_order_of_one_in_flight(broker):
    """With one message in flight at a time they come in the order of publication."""
    inbox = Inbox()
    subscription = await broker.subscribe(ask(most=1), inbox)
    texts = [str(number) for number in range(200)]
    await publish(broker, *texts)
    assert await inbox.count(200) == texts
    assert inbox.most_running == 1
    await drained(subscription)


async def test_order_of_a_key(broker, broker_harness):
    """With `ordered` each key is one after another, in order, a failing one holds up its key only; others run at once."""
    if not broker_harness.setup.ordered:
        pytest.skip("the adapter does not claim it")
    running: Counter[str] = Counter()
    tries: Counter[bytes] = Counter()

    async def answer(message):
        key = message.data.decode().partition("-")[0]
        running[key] += 1
        assert running[key] == 1
        await asyncio.sleep(0)
        running[key] -= 1
        tries[message.data] += 1
        return Outcome.RETRY if message.data == b"k1-7" and tries[message.data] < 4 else Outcome.ACCEPTED

    inbox = Inbox(answer)
    texts = [f"k{number % 5}-{number // 5}" for number in range(100)]
    for text in texts:
        await publish(broker, text, partitionKey=text[:2])
    await publish(broker, "x-0")
    subscription = await broker.subscribe(ask(ordered="true"), inbox)
    await drained(subscription)
    for key in range(5):
        seen = list(dict.fromkeys(text for text in inbox.texts if text.startswith(f"k{key}")))
        assert seen == [f"k{key}-{number}" for number in range(20)]
    assert Counter(inbox.texts) == Counter([*texts, "x-0", *["k1-7"] * 3])
    assert inbox.most_running > 1
    others_done = max(inbox.texts.index("k0-19"), inbox.texts.index("k4-19"))
    assert others_done < inbox.texts.index("k1-8")


async def test_bulk(broker):
    """A bulk publish delivers every entry; metadata of the request holds for entries that say nothing else."""
    inbox = Inbox()
    await broker.subscribe(ask(), inbox)
    entries = [BulkEntry(str(number), str(number).encode(), "text/plain") for number in range(300)]
    entries[0] = BulkEntry("0", b"0", "text/plain", {"own": "1", "shared": "other"})
    assert await broker.bulk_publish("orders", entries, {"shared": "s"}) == []
    await inbox.count(300)
    assert Counter(inbox.texts) == Counter(str(number) for number in range(300))
    by_text = {message.data: message.metadata for message in inbox.messages}
    assert by_text[b"0"] == {"own": "1", "shared": "other"}
    assert by_text[b"1"] == {"shared": "s"}
    assert await broker.bulk_publish("orders", [], {}) == []


@pytest.mark.parametrize("most", [1, 7])
async def test_back_pressure(broker, most):
    """Never more than `max_in_flight` messages are with a handler; the rest are pending, and come when there is room."""
    inbox = Inbox()
    inbox.gate.clear()
    subscription = await broker.subscribe(ask(most=most), inbox)
    await publish(broker, *(str(number) for number in range(100)))
    await inbox.count(most)
    assert await subscription.pending() in (100, None)
    assert inbox.running == most
    inbox.gate.set()
    await inbox.count(100)
    assert inbox.most_running == most
    await drained(subscription)


async def test_many_publishers_and_groups(broker):
    """Under load from many publishers every group gets every message once."""
    inboxes = [Inbox() for _ in range(5)]
    for number, inbox in enumerate(inboxes):
        await broker.subscribe(ask(f"app-{number}", most=20), inbox)

    async def publisher(name: int) -> None:
        await publish(broker, *(f"{name}-{number}" for number in range(40)))

    await asyncio.gather(*(publisher(name) for name in range(16)))
    for inbox in inboxes:
        texts = await inbox.count(640)
        assert len(texts) == len(set(texts)) == 640


async def test_time_to_live(broker, broker_harness):
    """Where the adapter claims it, an expired message is not delivered, neither first nor again."""
    if PubSubCapability.MESSAGE_TTL not in broker.effective_capabilities():
        pytest.skip("the adapter does not claim it: the block drops what has expired")
    inbox = Inbox(lambda m: Outcome.RETRY if m.data == b"tried" else Outcome.ACCEPTED)
    subscription = await broker.subscribe(ask(), inbox)
    await publish(broker, "tried", ttlInSeconds="100")
    await inbox.count(1)
    await subscription.pause()
    await publish(broker, "short", TTL="30s")
    await publish(broker, "long", ttlInSeconds="1000")
    await publish(broker, "no", ttlInSeconds="nonsense")
    assert await subscription.pending() in (4, None)
    broker_harness.clock.ahead = 200
    inbox.messages.clear()
    await subscription.resume()
    await inbox.until(lambda: {"long", "no"} <= set(inbox.texts))
    await drained(subscription)
    assert sorted(inbox.texts) == ["long", "no"]


async def test_wildcards(broker):
    """Where the adapter claims it, a topic that ends in `*` stands for all that begin like it and go on."""
    if PubSubCapability.SUBSCRIBE_WILDCARDS not in broker.effective_capabilities():
        pytest.skip("the adapter does not claim it")
    inbox, everything = Inbox(), Inbox()
    subscription = await broker.subscribe(ask(topic="orders/*"), inbox)
    await broker.subscribe(ask(topic="*"), everything)
    for topic in ("orders/", "orders", "orders/eu", "orders/eu/1", "other/orders/eu"):
        await publish(broker, topic, topic=topic)
    assert await everything.count(5)
    await drained(subscription)
    assert [(message.topic, message.data.decode()) for message in inbox.messages] == [
        ("orders/eu", "orders/eu"),
        ("orders/eu/1", "orders/eu/1"),
    ]
