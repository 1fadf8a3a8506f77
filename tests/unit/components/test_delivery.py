"""Consumer groups inside the instance: waiting times, and how messages are handed out."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from dapr_shared.components.delivery import JITTER, Backoff, ConsumerGroup, Delayed, Entry, Member
from dapr_shared.contracts.pubsub import Message, Outcome, SubscribeRequest
from tests.support.component_pubsub import Inbox
from tests.support.pubsub_fakes import until


class Group(ConsumerGroup):
    """A group that keeps what was accepted."""

    def __init__(self) -> None:
        super().__init__("t", "g", Backoff(0.01, 0.02))
        self.done: list[str] = []

    def accepted(self, entry: Entry) -> None:
        self.done.append(entry.message.data.decode())

    async def pending(self) -> int | None:
        return None

    def removed(self, member: Member) -> None:
        pass


def entries(*texts: str, start: int = 0) -> list[Entry]:
    return [Entry(start + number, Message("t", text.encode())) for number, text in enumerate(texts)]


def member(group: Group, handler: Inbox, most: int = 100) -> Member:
    made = Member(group, SubscribeRequest("t", "g", max_in_flight=most), handler)
    group.join(made)
    return made


@pytest.mark.parametrize(("failures", "expected"), [(1, 1.0), (2, 2.0), (3, 4.0), (7, 60.0), (10**9, 60.0)])
def test_backoff(failures, expected):
    """Waiting times double up to the maximum, and vary by ten per cent."""
    backoff = Backoff(1.0, 60.0)
    delays = [backoff.delay(failures) for _ in range(50)]
    assert all(expected * (1 - JITTER) <= delay <= expected * (1 + JITTER) for delay in delays)
    assert len(set(delays)) > 1


def test_a_time_that_is_over_at_once():
    """On the loop of production too, more may be added while a timer is set that is due at once."""

    async def main() -> list[str]:
        due: list[Entry] = []
        delayed = Delayed(due.extend)
        for entry, delay in zip(entries("a", "b", "c"), (0.0, 0.0, -1.0), strict=True):
            delayed.add(entry, delay)
        await until(lambda: len(due) == 3)
        return sorted(entry.message.data.decode() for entry in due)

    assert uvloop.run(main()) == ["a", "b", "c"]


async def test_delayed_come_in_order_of_time():
    """Each entry comes when its own time is over, whatever the order of adding."""
    due: list[Entry] = []
    ready = asyncio.Event()

    def ring(batch):
        due.extend(batch)
        if len(due) == 3:
            ready.set()

    delayed = Delayed(ring)
    first, second, third = entries("1", "2", "3")
    delayed.add(third, 0.03)
    delayed.add(first, 0.001)
    delayed.add(second, 0.02)
    async with asyncio.timeout(5):
        await ready.wait()
    assert due == [first, second, third]
    assert len(delayed) == 0


async def test_delayed_taken():
    """Entries that are taken wait no more, and no timer is left."""
    due: list[Entry] = []
    delayed = Delayed(due.extend)
    waiting = entries("1", "2")
    for entry in waiting:
        delayed.add(entry, 0.01)
    assert delayed.take_all() == waiting
    await asyncio.sleep(0.03)
    assert due == []


async def test_members_take_turns():
    """Entries go to the members in turn, as long as both have room."""
    group = Group()
    first, second = Inbox(), Inbox()
    for inbox in (first, second):
        inbox.gate.clear()
        member(group, inbox)
    group.add(entries(*"abcdef"))
    await first.count(3)
    await second.count(3)
    assert first.texts == ["a", "c", "e"]
    for inbox in (first, second):
        inbox.gate.set()
    await first.until(lambda: len(group.done) == 6)


async def test_put_back_goes_first():
    """What was given back goes before what is new, in its order."""
    group = Group()
    inbox = Inbox()
    group.add(entries("c", "d", start=2))
    for entry in reversed(entries("a", "b")):
        group.put_back(entry)
    member(group, inbox, 1)
    assert await inbox.count(4) == [*"abcd"]


async def test_handlers_that_never_wait():
    """A handler that answers at once a thousand times lets others have the event loop in between."""
    group = Group()
    turns = 0

    async def handler(message: Message) -> Outcome:
        return Outcome.ACCEPTED

    group.add(entries(*map(str, range(1000))))
    group.join(Member(group, SubscribeRequest("t", "g", max_in_flight=1), handler))
    while len(group.done) < 1000:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 20
    assert group.done == [*map(str, range(1000))]


async def test_room_is_kept():
    """A worker that lets others go first does not exceed the limit afterwards."""
    group = Group()
    inbox = Inbox()
    member(group, inbox, 2)
    for start in range(0, 300, 3):
        group.add(entries("a", "b", "c", start=start))
        await asyncio.sleep(0)
    await inbox.count(300)
    assert inbox.most_running <= 2


async def test_stop_from_its_own_handler():
    """A handler that stops its own subscription does not wait for itself for ever."""
    group = Group()
    stopped: list[Member] = []

    async def stop_it(message):
        await stopped[0].stop(0)
        return Outcome.ACCEPTED

    inbox = Inbox(stop_it)
    stopped.append(member(group, inbox))
    group.add(entries("a"))
    await inbox.count(1)
    async with asyncio.timeout(5):
        await stopped[0].stop(0)
    await inbox.until(lambda: not inbox.running)
    assert group.done == []
    assert group.ready == 1
