"""Turns at a busy app."""

from __future__ import annotations

import asyncio

from dapr_shared.channel.concurrency import CallSlots


async def test_callers_take_turns():
    """A caller with many waiting calls gets one turn for each turn of another caller."""
    slots = CallSlots(limit=1)
    assert slots.try_take()
    order: list[str] = []

    async def call(caller: str) -> None:
        await slots.take(caller)
        order.append(caller)
        slots.give_back()

    many = [asyncio.create_task(call("a")) for _ in range(5)]
    await asyncio.sleep(0)
    few = [asyncio.create_task(call("b")) for _ in range(2)]
    await asyncio.sleep(0)
    assert slots.waiting == 7
    slots.give_back()
    await asyncio.gather(*many, *few)
    assert order == ["a", "b", "a", "b", "a", "a", "a"]
    assert (slots.in_flight, slots.waiting) == (0, 0)


async def test_a_cancelled_wait_leaves_the_queue():
    """Whoever gives up waiting takes no turn, and its caller leaves nothing behind."""
    slots = CallSlots(limit=1)
    assert slots.try_take()
    waiting = asyncio.create_task(slots.take("a"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert slots.waiting == 0
    slots.give_back()
    assert slots.in_flight == 0
