"""One subscription of configuration and the store behind it, when two things happen at once."""

from __future__ import annotations

import asyncio
from typing import Any

from dapr_shared.blocks.configuration.listener import Listener
from tests.support.pubsub_fakes import ORDERS


class SlowStore:
    """A store whose subscriptions begin when it is told so."""

    def __init__(self) -> None:
        self.begin = asyncio.Event()
        self.running = 0

    async def subscribe(self, _request: Any, _handler: Any) -> Any:
        self.running += 1
        await self.begin.wait()
        return self

    async def stop(self) -> None:
        self.running -= 1


async def test_bound_twice_at_once_is_subscribed_once():
    """A reload that looks at a subscription which is just being made neither doubles it nor leaves one behind."""
    store: Any = SlowStore()
    listener = Listener(ORDERS, "config", ("a",), {}, lambda _: None)
    both = [asyncio.create_task(listener.bind(store, catch_up=False)) for _ in range(2)]
    await asyncio.sleep(0)
    store.begin.set()
    await asyncio.gather(*both)
    assert store.running == 1
    await listener.unbind()
    assert store.running == 0
