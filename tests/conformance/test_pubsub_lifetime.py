"""Brokers: pausing, stopping and closing, with messages under way, and what is there afterwards."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import BulkEntry, Outcome
from tests.support.component_pubsub import Inbox, ask, drained, program, publish


async def test_pause_keeps_messages(broker):
    """A paused subscription gets nothing more, its messages are kept, and come in order when it resumes."""
    inbox = Inbox()
    subscription = await broker.subscribe(ask(most=1), inbox)
    await publish(broker, "first")
    await drained(subscription)
    await subscription.pause()
    await subscription.pause()
    texts = [str(number) for number in range(300)]
    await publish(broker, *texts)
    assert await subscription.pending() in (300, None)
    assert inbox.texts == ["first"]
    await subscription.resume()
    await subscription.resume()
    assert await inbox.count(301) == ["first", *texts]
    await drained(subscription)


async def test_pause_lets_handlers_end(broker):
    """Pausing leaves the messages with the handler alone: they are accepted."""
    inbox = Inbox()
    inbox.gate.clear()
    subscription = await broker.subscribe(ask(most=2), inbox)
    await publish(broker, *"abcd")
    await inbox.count(2)
    await subscription.pause()
    inbox.gate.set()
    await inbox.until(lambda: not inbox.running)
    assert inbox.texts == ["a", "b"]
    assert await subscription.pending() in (2, None)


async def test_pausing_under_load(broker):
    """A subscription that pauses and resumes all the time loses nothing and gets nothing twice."""
    inbox = Inbox()
    subscription = await broker.subscribe(ask(most=10), inbox)
    texts = [str(number) for number in range(500)]

    async def toggle() -> None:
        while True:
            await subscription.pause()
            await asyncio.sleep(0.002)
            await subscription.resume()
            await asyncio.sleep(0.002)

    toggling = asyncio.create_task(toggle())
    await publish(broker, *texts)
    await inbox.count(500)
    toggling.cancel()
    await subscription.resume()
    await drained(subscription)
    assert Counter(inbox.texts) == Counter(texts)


async def test_stop_waits_for_the_handler(broker):
    """Stopping waits for the handler within its grace; what it has accepted is done."""
    inbox = Inbox()
    inbox.gate.clear()
    subscription = await broker.subscribe(ask(most=1), inbox)
    await publish(broker, "a", "b")
    await inbox.count(1)
    stopping = asyncio.create_task(subscription.stop(30))
    await asyncio.sleep(0.05)
    assert not stopping.done()
    inbox.gate.set()
    async with asyncio.timeout(10):
        await stopping
    after = Inbox()
    await broker.subscribe(ask(), after)
    await publish(broker, "c")
    await after.until(lambda: "c" in after.texts)
    assert after.texts == ["b", "c"]


async def test_stop_gives_back(broker):
    """What the handler has not finished within the grace is given back, uncounted, and comes to the next subscription."""
    inbox = Inbox()
    inbox.gate.clear()
    subscription = await broker.subscribe(ask(most=3), inbox)
    await publish(broker, *"abcde")
    await inbox.count(3)
    start = time.monotonic()
    await subscription.stop(0.1)
    assert time.monotonic() - start < 5
    assert inbox.running == 0
    after = Inbox()
    again = await broker.subscribe(ask(most=1), after)
    assert await after.count(5) == [*"abcde"]
    assert all(message.deliveries == 1 for message in after.messages)
    await drained(again)


async def test_handler_that_will_not_end(broker, monkeypatch):
    """A handler that ignores being cancelled does not hold up the stop; its message is given back."""
    monkeypatch.setattr("dapr_shared.components.delivery.CANCEL_TIMEOUT", 0.1)
    release = asyncio.Event()

    async def stubborn(message):
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return Outcome.ACCEPTED

    inbox = Inbox(stubborn)
    subscription = await broker.subscribe(ask(), inbox)
    await publish(broker, "a")
    await inbox.count(1)
    async with asyncio.timeout(5):
        await subscription.stop(0)
    after = Inbox()
    again = await broker.subscribe(ask(), after)
    assert await after.count(1) == ["a"]
    release.set()
    await inbox.until(lambda: not inbox.running)
    await drained(again)


async def test_stopped_twice(broker):
    """Stopping again, at once or later, pausing and resuming a stopped one does no harm; it gets nothing more."""
    inbox = Inbox()
    subscription = await broker.subscribe(ask(), inbox)
    await asyncio.gather(subscription.stop(1), subscription.stop(0))
    await subscription.stop(1)
    await subscription.pause()
    await subscription.resume()
    await publish(broker, "a")
    other = Inbox()
    await broker.subscribe(ask("other"), other)
    await publish(broker, "b")
    await other.until(lambda: "b" in other.texts)
    assert inbox.texts == []


async def test_stop_cancelled(broker):
    """A stop that is cancelled ends the subscription all the same, without the grace."""
    inbox = Inbox()
    inbox.gate.clear()
    subscription = await broker.subscribe(ask(), inbox)
    await publish(broker, "a")
    await inbox.count(1)
    stopping = asyncio.create_task(subscription.stop(60))
    await asyncio.sleep(0.01)
    stopping.cancel()
    await asyncio.wait([stopping])
    async with asyncio.timeout(10):
        await subscription.stop(60)
    after = Inbox()
    await broker.subscribe(ask(), after)
    assert await after.count(1) == ["a"]


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
async def test_subscribe_cancelled(broker, steps):
    """A subscribe that is cancelled midway leaves nothing that takes messages."""
    inbox = Inbox()
    starting = asyncio.create_task(broker.subscribe(ask(), inbox))
    for _ in range(steps):
        await asyncio.sleep(0)
    if starting.done():
        await (await starting).stop(0)
    starting.cancel()
    await asyncio.wait([starting])
    other = Inbox()
    again = await broker.subscribe(ask(), other)
    await publish(broker, "a")
    assert await other.count(1) == ["a"]
    await drained(again)
    assert inbox.texts == []


async def test_subscribe_while_it_stops(broker):
    """A group whose last subscription is stopping can be subscribed to at once; each message is delivered."""
    texts = [str(number) for number in range(200)]
    seen: Counter[str] = Counter()

    def answer(message):
        seen[message.data.decode()] += 1
        return Outcome.ACCEPTED

    subscription = await broker.subscribe(ask(), Inbox(answer))
    publishing = asyncio.create_task(publish(broker, *texts))
    async with asyncio.timeout(20):
        while not publishing.done():
            stopping = asyncio.create_task(subscription.stop(1))
            subscription = await broker.subscribe(ask(), Inbox(answer))
            await stopping
        await publishing
        await drained(subscription)
    assert seen == Counter(texts)


async def test_stop_under_load(broker_harness):
    """Closing a broker while messages are published and delivered ends promptly; what is durable is all there."""
    stack = AsyncExitStack()
    broker = broker_harness.make()
    await broker.start(stack)
    answered: list[str] = []
    accepted: set[str] = set()

    async def answer(message):
        await asyncio.sleep(random.random() / 100)
        accepted.add(message.data.decode())
        return Outcome.ACCEPTED

    async def publisher(name: int) -> None:
        for number in range(1_000_000):
            try:
                await publish(broker, f"{name}-{number}")
            except BackendError:
                return
            answered.append(f"{name}-{number}")
            await asyncio.sleep(0)

    inbox = Inbox(answer)
    await broker.subscribe(ask(most=10), inbox)
    publishers = [asyncio.create_task(publisher(name)) for name in range(8)]
    await inbox.until(lambda: len(accepted) > 30)
    async with asyncio.timeout(10):
        await stack.aclose()
        await asyncio.gather(*publishers)
    assert inbox.running == 0
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    if broker_harness.setup.durable:
        async with broker_harness.opened() as again:
            rest = Inbox()
            await drained(await again.subscribe(ask(), rest))
            assert set(answered) <= accepted | set(rest.texts)
            assert all(message.deliveries == 1 for message in rest.messages)


async def test_closed(broker_harness):
    """A closed broker answers every call with a `BackendError`, and its subscriptions can still be stopped."""
    async with broker_harness.opened() as broker:
        subscription = await broker.subscribe(ask(), Inbox())
    with pytest.raises(BackendError):
        await publish(broker, "a")
    with pytest.raises(BackendError):
        await broker.subscribe(ask(), Inbox())
    failures = await broker.bulk_publish("orders", [BulkEntry("1", b"a")], {})
    assert [failure.entry_id for failure in failures] == ["1"]
    await subscription.pause()
    await subscription.resume()
    await subscription.stop(1)


async def test_reopened(broker_harness):
    """A durable broker has its messages, its groups and their counts when it is opened again; another one has none."""
    durable = broker_harness.setup.durable
    inbox = Inbox(lambda m: Outcome.RETRY if m.data == b"failed" else Outcome.ACCEPTED)
    async with broker_harness.opened() as broker:
        subscription = await broker.subscribe(ask(), inbox)
        await publish(broker, "done", "failed")
        await inbox.until(lambda: inbox.texts.count("failed") == 2)
        await subscription.pause()
        await inbox.until(lambda: not inbox.running)
        await publish(broker, "new")
    after = Inbox()
    async with broker_harness.opened() as again:
        subscription = await again.subscribe(ask(), after)
        if durable:
            await after.count(2)
        await drained(subscription)
        assert sorted(after.texts) == (["failed", "new"] if durable else [])
        counts = {message.data: message.deliveries for message in after.messages}
        assert not durable or (counts[b"failed"] >= 3 and counts[b"new"] == 1)


@pytest.mark.parametrize("others", [1, 2])
async def test_killed_under_load(broker_harness, others):
    """Processes that publish and consume are killed at random points: every acknowledged message was delivered."""
    metadata = dict(broker_harness.setup.metadata)
    if not broker_harness.setup.durable:
        pytest.skip("the broker ends with its process")
    if others > 1 and metadata.get("exclusive"):
        pytest.skip("one process at a time")
    if "connectionString" in metadata:
        metadata["busyTimeout"] = "20s"
    output: list[bytes] = []
    end = time.monotonic() + 4

    async def many_lives() -> None:
        while time.monotonic() < end:
            async with program("both", broker_harness.type, metadata) as process:
                output.append(await process.stdout.readline())
                until = time.monotonic() + random.uniform(0.05, 0.6)
                while time.monotonic() < until:
                    output.append(await process.stdout.readline())
                process.kill()
                rest, _ = await process.communicate()
                output.extend(rest.splitlines(keepends=True))

    async with asyncio.timeout(60):
        await asyncio.gather(*(many_lives() for _ in range(others)))
        async with broker_harness.opened() as broker:
            rest = Inbox()
            await drained(await broker.subscribe(ask(most=1000), rest))
    published = [line[2:-1].decode() for line in output if line[:2] == b"P " and line[-1:] == b"\n"]
    delivered = Counter(line[2:-1].decode() for line in output if line[:2] == b"D ")
    delivered.update(rest.texts)
    assert len(published) > 100
    assert [text for text in published if not delivered[text]] == []
