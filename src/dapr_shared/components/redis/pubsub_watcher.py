"""Seeing that there are new messages: one waiting connection for all topics and groups.

First step of the delivery road. A connection that waits for a group's messages can wait for that group alone, so that
many apps would need as many connections. Instead one connection waits for news of all topics (XREAD), and the groups
then fetch by themselves. What it reads is the first new message of a topic, which it throws away. A topic whose groups
know of news that they have not fetched yet is left out until one of them has. In a cluster the topics are on several
servers: each has a connection.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from dapr_shared.components.redis.errors import WrongTypeError
from dapr_shared.components.redis.pubsub_scripts import LAST_ID
from dapr_shared.contracts.component import BackendError

if TYPE_CHECKING:
    from dapr_shared.components.redis.client import OwnConnection, RedisClient

BLOCK = 2.0
"""Seconds that one wait takes at most."""
POKE_AGAIN = 0.005
"""Seconds after which a wait that had not begun is ended again."""
WRONG = 10.0
"""Seconds until a topic whose key is no stream is looked at again."""
PAUSES = (0.1, 5.0)
"""Seconds until the first new try after a failure, and at most; doubled with each."""


class Woken(Protocol):
    """What is told that its topic has news."""

    topic: str

    @property
    def informed(self) -> bool:
        """Whether it knows that there may be new messages, and will fetch them."""
        ...

    def wake(self) -> None:
        """There may be new messages."""
        ...


class Watcher:
    """Waits for news of topics on a connection of its own."""

    def __init__(self, client: RedisClient, name: str) -> None:
        self._client = client
        self._groups: dict[str, set[Woken]] = {}
        self._positions: dict[str, str] = {}
        self._wrong: frozenset[str] = frozenset()
        """Topics whose keys are no streams now: they must not keep the others from their news."""
        self._wrong_until = 0.0
        # Of messages that come faster than they are fetched, each was read here once more: a tenth of a message (9 of 92 µs).
        self._sated: set[str] = set()
        """Topics whose groups all know of news: there is nothing to tell them until one says that it wants more."""
        self._changed = asyncio.Event()
        self._poking: asyncio.Task[None] | None = None
        self._waiting: int | None = None
        """The id of our connection at the server while it waits."""
        self._task = asyncio.create_task(self._run(), name=name)

    async def add(self, group: Woken) -> None:
        """Wake the group for every message that is published from now on. Raises `BackendError`."""
        if group.topic not in self._groups:
            last: bytes | None = await self._client.run(LAST_ID, (group.topic,))
            position = "0-0" if last is None else last.decode()
            self._positions.setdefault(group.topic, position)
        self._groups.setdefault(group.topic, set()).add(group)
        self._sated.discard(group.topic)
        self._changed.set()
        await self._poke()

    def want(self, topic: str) -> None:
        """A group has fetched all that there was: it is to be woken for the next message."""
        if topic not in self._sated:
            return
        self._sated.discard(topic)
        self._changed.set()
        if self._waiting is not None and self._poking is None:
            self._poking = asyncio.create_task(self._poke(), name=f"wait for {topic} too")
            self._poking.add_done_callback(self._poked)

    def discard(self, group: Woken) -> None:
        """The group needs no more news."""
        groups = self._groups.get(group.topic)
        if groups is None:
            return
        groups.discard(group)
        if not groups:
            del self._groups[group.topic]
            self._positions.pop(group.topic, None)
            self._sated.discard(group.topic)

    def seen(self, topic: str, message_id: str, by: Woken | None = None) -> None:
        """There are messages up to this one, as the group `by` has found: the others of its topic are woken."""
        position = self._positions.get(topic)
        if position is not None and _order(message_id) > _order(position):
            self._positions[topic] = message_id
            for group in self._groups.get(topic, ()):
                if group is not by:
                    group.wake()

    @property
    def needed(self) -> bool:
        """Whether any group wants news."""
        return bool(self._groups)

    async def end(self) -> None:
        """Stop."""
        tasks = [task for task in (self._task, self._poking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    def _poked(self, _: asyncio.Task[None]) -> None:
        self._poking = None

    async def _poke(self) -> None:
        """End the present wait, so that the next one is for all topics."""
        if self._client.is_cluster:
            return  # a watcher has one topic there
        with suppress(BackendError):  # not allowed, say: the wait is over soon all the same
            while self._waiting is not None and self._changed.is_set():
                if await self._client.call("CLIENT", "UNBLOCK", self._waiting):
                    return
                await asyncio.sleep(POKE_AGAIN)

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                key = next(iter(self._groups), None)
                if key is None:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                async with self._client.own_connection(key) as connection:
                    number = await connection.call("CLIENT", "ID")
                    self._wake_all()  # what came while nobody looked
                    while self._groups:
                        await self._wait(connection, number)
                        failures = 0
            except WrongTypeError:
                with suppress(BackendError):
                    await self._find_wrong()
            except BackendError:
                self._wake_all()
                delay = min(PAUSES[0] * 2.0**failures, PAUSES[1])
                failures = min(failures + 1, 10)
                await asyncio.sleep(delay * random.uniform(0.75, 1.25))  # noqa: S311 - spreads load

    async def _wait(self, connection: OwnConnection, number: int) -> None:
        self._changed.clear()
        now = asyncio.get_running_loop().time()
        if self._wrong and now >= self._wrong_until:
            self._wrong = frozenset()
        left_out = self._wrong | self._sated
        topics = {topic: at for topic, at in self._positions.items() if topic not in left_out}
        if not topics:
            with suppress(TimeoutError):
                async with asyncio.timeout(BLOCK):
                    await self._changed.wait()
            return
        self._waiting = number
        try:
            reply: Any = await connection.call(
                *("XREAD", "COUNT", 1, "BLOCK", int(BLOCK * 1000), "STREAMS"), *topics, *topics.values(), wait=BLOCK
            )
        finally:
            self._waiting = None
        for stream, messages in reply or ():
            topic = stream.decode()
            groups = self._groups.get(topic, ())
            # With other topics to wait for, adding one again takes a call: not for a message now and then.
            sated = len(topics) > 1 and all(group.informed for group in groups)
            self.seen(topic, messages[-1][0].decode())
            if groups and (sated or (len(topics) == 1 and all(group.informed for group in groups))):
                self._sated.add(topic)

    async def _find_wrong(self) -> None:
        """Find the topics whose keys are no streams. Raises `BackendError`."""
        topics = list(self._positions)
        kinds = await self._client.pipeline([("TYPE", topic) for topic in topics])
        self._wrong = frozenset(
            topic for topic, kind in zip(topics, kinds, strict=True) if kind not in {b"stream", b"none"}
        )
        self._wrong_until = asyncio.get_running_loop().time() + WRONG

    def _wake_all(self) -> None:
        for groups in self._groups.values():
            for group in groups:
                group.wake()


def _order(message_id: str) -> tuple[int, int]:
    milliseconds, _, number = message_id.partition("-")
    return int(milliseconds), int(number or 0)
