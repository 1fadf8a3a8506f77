"""Handlers for tests of brokers, and the program that publishes and consumes until it is killed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dapr_shared.components.catalog import Catalog
from dapr_shared.contracts.component import ComponentContext
from dapr_shared.contracts.pubsub import Message, Outcome, PublishRequest, PubSub, SubscribeRequest, Subscription
from dapr_shared.contracts.settings import decode_settings
from dapr_shared.core.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from dapr_shared.core.clock import Clock

PATIENCE = 20.0
"""Seconds until a test that waits for messages fails."""

Answer = Callable[[Message], Outcome | Awaitable[Outcome]]


def accept(message: Message) -> Outcome:
    """Accept everything."""
    return Outcome.ACCEPTED


class Inbox:
    """A handler that keeps what it was given; it can be held up, and answers what it is told to."""

    def __init__(self, answer: Answer = accept) -> None:
        self.messages: list[Message] = []
        self.answer = answer
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = 0
        self.most_running = 0
        self._changed = asyncio.Event()

    @property
    def texts(self) -> list[str]:
        """The payloads, in the order of delivery."""
        return [message.data.decode(errors="replace") for message in self.messages]

    async def __call__(self, message: Message) -> Outcome:
        self.messages.append(message)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self._changed.set()
        try:
            await self.gate.wait()
            found = self.answer(message)
            return found if isinstance(found, Outcome) else await found
        finally:
            self.running -= 1
            self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds, looked at whenever a handler begins or ends."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def count(self, number: int) -> list[str]:
        """Wait for so many deliveries in all; their payloads."""
        await self.until(lambda: len(self.messages) >= number)
        return self.texts


QUIET = 0.5
"""Seconds in which a broker that cannot say what waits has delivered it."""


async def drained(subscription: Subscription) -> None:
    """Wait until nothing is pending for the group; where the broker never knows, until what would come has come.

    A broker that knew before and does not now (its server is away) is waited for: unknown is not nothing.
    """
    if await subscription.pending() is None:
        await asyncio.sleep(QUIET)
        if await subscription.pending() is None:
            return
    async with asyncio.timeout(PATIENCE):
        while await subscription.pending() != 0:  # noqa: ASYNC110 - a broker sends no event
            await asyncio.sleep(0.01)


async def publish(broker: PubSub[Any], *texts: str, topic: str = "orders", **metadata: str) -> None:
    """Publish payloads one after another."""
    for text in texts:
        await broker.publish(PublishRequest(topic, text.encode(), "text/plain", metadata))


def ask(group: str = "app", topic: str = "orders", *, most: int = 100, **metadata: str) -> SubscribeRequest:
    """A request to subscribe."""
    return SubscribeRequest(topic, group, metadata, max_in_flight=most)


@asynccontextmanager
async def sqlite_broker(file: Path, clock: Clock | None = None, **metadata: str) -> AsyncIterator[Any]:
    """A started `pubsub.sqlite`."""
    catalog = Catalog(installed=None)
    adapter = catalog.load(catalog.find("pubsub.sqlite"))
    settings = decode_settings(adapter.settings_type, {"connectionString": str(file), **metadata})
    async with AsyncExitStack() as stack:
        broker = adapter(settings, ComponentContext("b", "pubsub.sqlite", clock=clock or SystemClock()))
        await broker.start(stack)
        yield broker


@asynccontextmanager
async def opened_broker(component_type: str, metadata: Mapping[str, str]) -> AsyncIterator[Any]:
    """A started broker of any type."""
    catalog = Catalog(installed=None)
    adapter = catalog.load(catalog.find(component_type))
    async with AsyncExitStack() as stack:
        broker = adapter(decode_settings(adapter.settings_type, metadata), ComponentContext("b", component_type))
        await broker.start(stack)
        yield broker


@asynccontextmanager
async def program(
    mode: str, component_type: str, metadata: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """This module as a program in a process of its own, which is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        *(mode, component_type, json.dumps(dict(metadata))),
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 26,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def traffic(mode: str, file: Path, **metadata: str) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """The program on a `pubsub.sqlite`."""
    return program(mode, "pubsub.sqlite", {"connectionString": str(file), "busyTimeout": "20s", **metadata})


async def run(mode: str, component_type: str, metadata: Mapping[str, str]) -> None:
    """`publish`: print `P <text>` after each publish was answered. `consume`: print `D <text>` before each is accepted.

    `both` does both. `hold` consumes and never answers.
    """
    async with opened_broker(component_type, metadata) as broker:

        async def consume(message: Message) -> Outcome:
            os.write(1, b"D " + message.data + b"\n")
            if mode == "hold":
                await asyncio.Event().wait()
            return Outcome.ACCEPTED

        async def publisher(name: int) -> None:
            for number in range(1_000_000):
                text = f"{os.getpid()}-{name}-{number}"
                await publish(broker, text)
                os.write(1, f"P {text}\n".encode())

        if mode in {"consume", "both", "hold"}:
            await broker.subscribe(ask(), consume)
        os.write(1, b"ready\n")
        if mode in {"publish", "both"}:
            await asyncio.gather(*(publisher(name) for name in range(8)))
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
