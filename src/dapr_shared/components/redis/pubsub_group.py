"""A consumer group of `pubsub.redis` in one instance.

First step of the delivery road. One task for each group keeps signs of life of what it has, claims what dead instances
had, and fetches what is new, a few messages more than its subscriptions have room for. Messages stay on the group's
list at the server until they are acknowledged, so that a killed instance loses none: another one claims them.
"""

# ruff: noqa: D102 - the contract and `ConsumerGroup` say what their methods promise

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from dapr_shared.components.delivery import Backoff, ConsumerGroup, Entry, Member
from dapr_shared.components.redis import pubsub_scripts as scripts
from dapr_shared.components.redis.errors import NoGroupError, ReplyError
from dapr_shared.contracts.component import BackendError, BackendUnavailableError
from dapr_shared.contracts.pubsub import Message
from dapr_shared.core.ids import random_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dapr_shared.components.redis.client import RedisClient
    from dapr_shared.components.redis.pubsub_watcher import Watcher

MOST_HELD = 1_000
"""Messages that a group has in one instance, those that failed and wait included; past it, none are fetched."""
GIVEN_BACK = 30 * 24 * 3600 * 1000
"""Milliseconds of idleness that a message gets which was given back: longer than any `processingTimeout`."""
HOLD = 1.0
"""Seconds that a paused group keeps what it had fetched, before other instances may have it."""
LONGEST_WAIT = 60.0
"""Seconds that a group with nothing to do waits for news, at most."""
PAUSES = (0.1, 5.0)
"""Seconds until the first new try after a failure, and at most; doubled with each."""
CONSUMER_IDLE = 3600.0
"""Seconds after which the name of a dead instance is removed from a group, once it has no messages."""
MOST_COUNTED = 10_000
"""Messages that are counted at most where the server does not know how many wait."""
END = 2.0
"""Seconds that the task of a group has to end by itself."""
BATCH = 500
"""Messages of one call for signs of life, acknowledgements or giving back."""


_METADATA = msgspec.json.Decoder(dict[str, str])


@dataclass(frozen=True, slots=True)
class Shared:
    """What the groups of one broker share."""

    client: RedisClient
    backoff: Backoff
    queue_depth: int
    processing_timeout: float
    """Seconds; 0: nothing is delivered again."""
    redeliver_interval: float
    watcher_of: Callable[[str], Watcher]
    problem: Callable[[BackendError | None], None]
    """The last call for the groups failed; `None`: it succeeded."""
    closed: Callable[[RedisGroup], None]
    """The group has ended and has nothing any more."""


class RedisGroup(ConsumerGroup):
    """One group, while it has subscriptions in this instance."""

    def __init__(self, shared: Shared, topic: str, name: str) -> None:
        super().__init__(topic, name, shared.backoff)
        self.closing: asyncio.Future[None] | None = None
        """Set when the last subscription has ended, done when everything is given back."""
        self._shared = shared
        self._client = shared.client
        self._consumer = f"{name}/{random_id()}"
        self._held: dict[str, Entry] = {}
        self._acknowledged: list[str] = []
        self._counted: dict[str, int] = {}
        self._stir = asyncio.Event()
        self._news = True
        self._claim_at = 0.0
        self._keep_at = 0.0
        self._forget_at = 0.0
        self._watched = False
        self._wants_room = False
        self._unsure = False
        """A reply was lost: the server may have given us messages that are not here."""
        self._failures = 0
        self._ending = False
        self._task = asyncio.create_task(self._run(), name=f"consume {topic} as {name}")

    @property
    def redelivers(self) -> bool:
        """Whether messages are delivered again at all: both times are set (reference components §2)."""
        return bool(self._shared.processing_timeout and self._shared.redeliver_interval)

    # What the members say ---------------------------------------------------------------------------------------------

    def accepted(self, entry: Entry) -> None:
        message_id = entry.message.id
        self._held.pop(message_id, None)
        self._counted.pop(message_id, None)
        self._acknowledged.append(message_id)
        self._stir.set()

    def counted(self, entry: Entry) -> None:
        if not self.redelivers:  # it stays on the group's list, and is of no further use here
            self._held.pop(entry.message.id, None)
        self._counted[entry.message.id] = entry.message.deliveries - 1
        self._stir.set()

    def retry_due(self, due: list[Entry]) -> None:
        if self.redelivers:
            super().retry_due(due)

    def put_back(self, entry: Entry) -> None:
        self.put_all_back((entry,))

    def put_all_back(self, entries: Iterable[Entry]) -> None:
        """They are ready, and go in the order of their ids."""
        for entry in entries:
            super().put_back(entry)
        if not self.active:
            self._stir.set()

    def taken(self) -> None:
        if self._wants_room:
            self._stir.set()

    def resumed(self) -> None:
        self._news = True
        self._claim_at = 0.0  # what was given back while paused, and before what is new
        self._stir.set()

    def paused(self) -> None:
        self._stir.set()

    @property
    def informed(self) -> bool:
        return self._news

    def wake(self) -> None:
        """There may be new messages."""
        self._news = True
        self._stir.set()

    async def pending(self) -> int | None:
        try:
            waiting: int = await self._client.run(scripts.WAITING, (self.topic,), self.name, "", MOST_COUNTED)
        except NoGroupError:
            return 0
        except BackendUnavailableError:
            return None  # nobody knows while it is away
        return max(0, waiting - len(self._acknowledged))

    def removed(self, member: Member) -> asyncio.Future[None] | None:
        del member
        if self.members:
            return None
        if self.closing is None:
            self.closing = asyncio.create_task(self._close(), name=f"give back {self.topic} of {self.name}")
        return asyncio.shield(self.closing)

    # The task ---------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._ending:
            self._stir.clear()
            try:
                wait = await self._step()
            except NoGroupError:
                with suppress(BackendError):
                    await create_group(self._client, self.topic, self.name)
                wait = self._delay()
            except BackendError as error:
                self._shared.problem(error)
                wait = self._delay()
            else:
                if self._failures:
                    self._failures = 0
                    self._shared.problem(None)
            await self._wait(wait)

    async def _wait(self, seconds: float) -> None:
        """Wait until something stirs; after a failure for the end alone, so that it is not tried at once again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while seconds > 0 and not self._ending:
                    await self._stir.wait()
                    if not self._failures:
                        return
                    self._stir.clear()

    def _delay(self) -> float:
        self._failures = min(self._failures + 1, 10)
        return min(PAUSES[0] * 2.0 ** (self._failures - 1), PAUSES[1]) * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load

    async def _step(self) -> float:
        """Do what is to be done now; the seconds until there may be more, unless something stirs."""
        await self._settle()
        now = asyncio.get_running_loop().time()
        if self.redelivers and now >= self._keep_at:
            await self._keep(now)
        if not self.active:
            return await self._rest()
        if not self._watched:
            await self._shared.watcher_of(self.topic).add(self)
            self._watched, self._news = True, True
        if self._unsure:
            await self._adopt()
        if now >= self._claim_at and self._room > 0 and await self._claim(now):
            return 0.0
        if self._news and self._room > 0 and await self._fetch():
            return 0.0
        return self._until_due()

    def _until_due(self) -> float:
        """Seconds until there is something to do that nothing stirs."""
        if self._acknowledged or self._counted:
            return 0.0
        now = asyncio.get_running_loop().time()
        self._wants_room = self.active and self._room <= 0 and (self._news or now >= self._claim_at)
        due = self._keep_at if self.redelivers else now + LONGEST_WAIT
        if self.active and self._room > 0:
            due = min(due, self._claim_at)
        return max(0.001, min(due - now, LONGEST_WAIT))

    @property
    def _room(self) -> int:
        """How many more messages may be fetched; 0 until it is worth a call."""
        limit = min(self._shared.queue_depth, 2 * self.capacity)
        room = min(limit - self.ready - self.in_hand, MOST_HELD - len(self._held))
        return room if room >= limit // 2 else 0

    async def _rest(self) -> float:
        """While paused: after a moment, what was fetched and not handed over is given back for other instances."""
        self._unwatch()
        if self.ready:
            with suppress(TimeoutError):
                async with asyncio.timeout(HOLD):
                    while not self.active and not self._acknowledged and not self._counted:
                        self._stir.clear()
                        await self._stir.wait()
                return 0.0
            if not self.active:
                await self._give_back(self.take_ready())
        return self._until_due()

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._shared.watcher_of(self.topic).discard(self)

    async def _fetch(self) -> bool:
        """Fetch new messages, as many as there is room for; whether there may be more."""
        room = self._room
        self._news = False
        try:
            reply: Any = await self._client.call(
                *("XREADGROUP", "GROUP", self.name, self._consumer, "COUNT", room, "STREAMS", self.topic, ">")
            )
        except BackendError:
            self._news = self._unsure = True
            raise
        messages = [(message_id, fields, 1) for message_id, fields in reply[0][1]] if reply else []
        if messages:
            self._shared.watcher_of(self.topic).seen(self.topic, messages[-1][0].decode(), by=self)
            self._take(messages)
        if len(messages) >= room:
            self._news = True
        if not self._news:
            self._shared.watcher_of(self.topic).want(self.topic)
        return self._news

    async def _adopt(self) -> None:
        """Take what the server has given us in a reply that was lost."""
        first = "0"
        while True:
            reply: Any = await self._client.call(
                *("XREADGROUP", "GROUP", self.name, self._consumer, "COUNT", BATCH, "STREAMS", self.topic, first)
            )
            messages = [(message_id, fields, 1) for message_id, fields in reply[0][1]] if reply else []
            done = set(self._acknowledged)
            self._take([one for one in messages if (text := one[0].decode()) not in self._held and text not in done])
            if len(messages) < BATCH:
                self._unsure = False
                return
            first = messages[-1][0].decode()

    async def _claim(self, now: float) -> bool:
        """Take over what nobody has given a sign of life for; whether there may be more."""
        idle = int(self._shared.processing_timeout * 1000) if self.redelivers else GIVEN_BACK
        first, room = "-", self._room
        while room > 0:
            last, messages = await self._client.run(
                scripts.CLAIM, (self.topic,), self.name, self._consumer, idle, min(room, BATCH), first
            )
            self._take([one for one in messages if one[0].decode() not in self._held])
            if last is None:
                self._claim_at = now + (self._shared.redeliver_interval if self.redelivers else float("inf"))
                if now >= self._forget_at:
                    self._forget_at = now + CONSUMER_IDLE
                    await self._client.run(
                        scripts.FORGET, (self.topic,), self.name, self._consumer, int(CONSUMER_IDLE * 1000)
                    )
                return False
            first, room = f"({last.decode()}", self._room
        return True

    def _take(self, messages: Iterable[tuple[bytes, Sequence[bytes] | None, int]]) -> None:
        entries: list[Entry] = []
        for message_id, fields, deliveries in messages:
            text = message_id.decode()
            if fields is None:  # deleted from the stream before it was delivered
                self._acknowledged.append(text)
                continue
            entry = Entry(_order(text), _message(self.topic, text, fields, deliveries))
            self._held[text] = entry
            entries.append(entry)
        self.put_all_back(entries)
        self.dispatch()

    # What the server is told ------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Acknowledge what was accepted, and write down what has failed. What is not written is written again."""
        while self._acknowledged:
            batch = self._acknowledged[:BATCH]
            await self._client.call("XACK", self.topic, self.name, *batch)
            del self._acknowledged[: len(batch)]
        if self._counted:
            counted, self._counted = self._counted, {}
            try:
                await self._touch([(one, str(count)) for one, count in counted.items()])
            except BackendError:
                self._counted = {**counted, **self._counted}
                raise

    async def _keep(self, now: float) -> None:
        """Give a sign of life for all that is held here, so that no other instance takes it."""
        await self._touch([(one, "") for one in self._held])
        self._keep_at = now + self._shared.processing_timeout / 3

    async def _touch(self, pairs: Sequence[tuple[str, str]]) -> None:
        for start in range(0, len(pairs), BATCH):
            batch = [text for pair in pairs[start : start + BATCH] for text in pair]
            lost = await self._client.run(scripts.KEEP, (self.topic,), self.name, self._consumer, *batch)
            self._lose({one.decode() for one in lost})

    def _lose(self, lost: set[str]) -> None:
        """Others have these by now: what is not with a handler is not handed over any more."""
        if not lost:
            return
        for entry in self.take_ready():
            if entry.message.id in lost:
                self._held.pop(entry.message.id, None)
            else:
                self.put_back(entry)

    async def _give_back(self, entries: Sequence[Entry]) -> None:
        for start in range(0, len(entries), BATCH):
            batch = entries[start : start + BATCH]
            pairs = [text for one in batch for text in (one.message.id, str(one.message.deliveries - 1))]
            try:
                await self._client.run(scripts.GIVE_BACK, (self.topic,), self.name, self._consumer, GIVEN_BACK, *pairs)
            except BackendError:
                for entry in entries[start:]:
                    self.put_back(entry)
                raise
            for entry in batch:
                self._held.pop(entry.message.id, None)

    async def _close(self) -> None:
        """Acknowledge and give back everything. What fails here is claimed by others after `processingTimeout`."""
        self._ending = True
        self._stir.set()
        await asyncio.wait([self._task], timeout=END)  # a reply that is cut off may have messages in it
        self._task.cancel()
        await asyncio.wait([self._task])
        self._unwatch()
        self.take_ready()
        self.take_held_back()
        try:
            await self._settle()
            await self._give_back(list(self._held.values()))
            await self._client.run(scripts.FORGET, (self.topic,), self.name, self._consumer, 0)
        except BackendError as error:
            self._shared.problem(error)
        finally:
            self._held.clear()
            self.take_ready()
            self._shared.closed(self)


async def create_group(client: RedisClient, topic: str, name: str) -> None:
    """Make the group, which begins at the oldest message that is kept; one that exists is left alone."""
    try:
        await client.call("XGROUP", "CREATE", topic, name, "0", "MKSTREAM")
    except ReplyError as error:
        if "BUSYGROUP" not in str(error):
            raise


def _order(message_id: str) -> int:
    milliseconds, _, number = message_id.partition("-")
    return int(milliseconds) << 64 | int(number)


def _message(topic: str, message_id: str, fields: Sequence[bytes], deliveries: int) -> Message:
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    metadata: dict[str, str] = {}
    given = found.get(b"metadata")
    if given:
        with suppress(msgspec.DecodeError):  # of somebody else's making: the message is delivered without, as in daprd
            metadata = _METADATA.decode(given)
    content_type = found.get(b"contentType", b"").decode(errors="replace")
    return Message(topic, found.get(b"data", b""), content_type, metadata, message_id, deliveries)
