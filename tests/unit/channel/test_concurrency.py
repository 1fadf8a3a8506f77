"""Slots: who may call an app now, who waits, and in which order."""

from __future__ import annotations

import asyncio

import pytest

from dapr_shared.channel.concurrency import CallSlots, HeldBody
from dapr_shared.contracts.invocation import ChannelBusyError
from dapr_shared.wire.http.messages import BodyError


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_without_a_limit_nobody_waits():
    """An app without maxConcurrency takes every call at once."""
    slots = CallSlots()
    assert all(slots.try_take() for _ in range(1000))
    assert slots.in_flight == 1000


async def test_waiting_calls_are_served_in_order():
    """First come, first served; a newcomer does not overtake."""
    slots = CallSlots(1)
    assert slots.try_take()
    order: list[int] = []

    async def wait(number: int) -> None:
        await slots.take()
        order.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(4)]
    await settle()
    assert slots.waiting == 4
    for served in range(1, 5):
        slots.give_back()
        assert not slots.try_take()
        await settle()
        assert order == list(range(served))
    await asyncio.gather(*tasks)
    slots.give_back()
    assert slots.in_flight == 0
    assert slots.try_take()


async def test_too_many_waiting_is_refused_by_name():
    """Past the bound of waiting calls the answer is ChannelBusyError, with the numbers."""
    slots = CallSlots(1, waiting=1)
    assert slots.try_take()
    waiting = asyncio.create_task(slots.take())
    await settle()
    with pytest.raises(ChannelBusyError, match="1 calls in flight, its limit, and 1 more wait"):
        await slots.take()
    slots.give_back()
    await waiting


async def test_a_cancelled_wait_takes_nothing():
    """A call that gives up waiting leaves its place to the next one."""
    slots = CallSlots(1)
    assert slots.try_take()
    first, second = asyncio.create_task(slots.take()), asyncio.create_task(slots.take())
    await settle()
    first.cancel()
    await settle()
    assert slots.waiting == 1
    slots.give_back()
    await second
    slots.give_back()
    assert slots.in_flight == 0


async def test_a_slot_handed_to_a_call_cancelled_at_the_same_moment_is_not_lost():
    """Handing over and cancellation in one turn of the loop: the slot goes on to the next call."""
    slots = CallSlots(1)
    assert slots.try_take()
    first, second = asyncio.create_task(slots.take()), asyncio.create_task(slots.take())
    await settle()
    slots.give_back()
    first.cancel()
    await asyncio.wait((first, second))
    assert first.cancelled()
    assert second.exception() is None
    slots.give_back()
    assert slots.in_flight == 0


async def test_idle_waits_for_the_last_call():
    """Draining sees the end of the last call in flight, and not before."""
    slots = CallSlots()
    slots.try_take()
    slots.try_take()
    idle = asyncio.create_task(slots.idle())
    slots.give_back()
    await settle()
    assert not idle.done()
    slots.give_back()
    await idle


class Chunks:
    content_length = None

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self.chunks = list(chunks)
        self.error = error
        self.closed = False

    def __aiter__(self):
        return self

    async def __anext__(self) -> bytes:
        if self.chunks:
            return self.chunks.pop(0)
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration

    async def read(self, limit: int) -> bytes:
        return b"".join([chunk async for chunk in self])

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize("how", ["iterate", "read", "aclose", "break off", "aclose twice"])
async def test_a_streamed_answer_holds_its_slot_until_it_is_finished(how):
    """Read to the end, closed or broken off: each gives the slot back, once."""
    slots = CallSlots(1)
    slots.try_take()
    body = HeldBody(Chunks(b"a", b"b", error=BodyError("gone") if how == "break off" else None), slots)
    assert await anext(body) == b"a"
    assert slots.in_flight == 1
    if how == "iterate":
        assert [chunk async for chunk in body] == [b"b"]
    elif how == "read":
        assert await body.read(10) == b"b"
    elif how == "break off":
        with pytest.raises(BodyError):
            await body.read(10)
    else:
        await body.aclose()
    await body.aclose()
    assert slots.in_flight == 0
