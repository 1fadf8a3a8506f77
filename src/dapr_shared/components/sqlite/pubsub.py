"""`pubsub.sqlite`: a durable message broker in one file, ours.

Last step of the request road and first of the delivery road. For a laptop or a single node: every process that uses the
file must run on the machine that has the disk. Never for replicas on several machines, and never on a network disk:
neither SQLite's locks nor the wake-up of other processes work there.

- A published message is in the file when `publish` returns. With `synchronous: full` it survives a killed process and
  lost power; with `normal` it survives a killed process, and lost power may take the last ones.
- A group that is new begins at the oldest message that is kept, so an app that subscribes late gets what was published
  before. Its subscriptions, in all processes that have the file open, share its messages.
- A failed message comes again after `redeliverInterval`, doubled with each failure up to `maxRedeliverInterval`, ± 10 %,
  and `Message.deliveries` counts, over restarts too. What a process had when it died is given to another one within
  some ten seconds, or to the next one that starts; as it may have been delivered, it counts.
- Messages of a topic are first delivered in the order of publication; a failed one does not hold up those behind it.
  With `ordered: "true"` in the subscription's metadata, messages with the same `partitionKey` are delivered one after
  another, in order, across all processes: a failing one holds up its own key only.
- `ttlInSeconds` of a message: it is not delivered after that, and is removed.
- Messages are kept for `retention` after they were published, done or not: so long an app may be away. Past `maxSize`
  what all groups of a topic have done is removed, oldest first (never of a topic without a group); where that is not
  enough, publishing is refused. A group whose app never comes back holds its messages until they are too old.

Waiting times go by the machine's clock that is never set; the time of day counts for `retention` and `ttlInSeconds`
alone, and nothing is removed by its age for some minutes after a start, or after the time of day was set. A damaged
file, a file of something else and one of a newer version are refused and left as they are. The tables: `pubsub_schema`.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import msgspec

from dapr_shared.components.delivery import Backoff, Member
from dapr_shared.components.sqlite import pubsub_statements as statements
from dapr_shared.components.sqlite import pubsub_upkeep as upkeep
from dapr_shared.components.sqlite.pubsub_group import Ledger, Shared, SqliteGroup
from dapr_shared.components.sqlite.pubsub_neighbours import Neighbours
from dapr_shared.components.sqlite.pubsub_schema import LAYOUT
from dapr_shared.components.sqlite.pubsub_settings import SqlitePubSubSettings
from dapr_shared.components.sqlite.pubsub_statements import NewMessage
from dapr_shared.components.sqlite.pubsub_sweep import Sweeper
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import (
    BrokerFullError,
    BulkEntry,
    BulkFailure,
    Handler,
    PublishRequest,
    PubSub,
    PubSubCapability,
    SubscribeRequest,
    Subscription,
    time_to_live,
)
from dapr_shared.contracts.settings import TRUE_WORDS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

LOOK = (5.0, 10.0)
"""Seconds between two looks at the other processes, at random in this range."""
CHUNK = 256
"""Messages of a bulk publish that are written in one go."""


class SqlitePubSub(PubSub[SqlitePubSubSettings]):
    """A broker in a SQLite file."""

    settings_type = SqlitePubSubSettings
    capabilities: ClassVar[frozenset[str]] = frozenset({PubSubCapability.MESSAGE_TTL, PubSubCapability.BULK_PUBSUB})

    _opened: Shared | None = None
    """`None` before the start and after the end."""

    def data_location(self) -> str | None:
        return self.settings.place

    async def start(self, stack: AsyncExitStack) -> None:
        settings = self.settings
        database = await LAYOUT.open(settings, stack)
        self._neighbours = Neighbours(settings.file, self._wake)
        stack.callback(self._neighbours.close)
        self._neighbours.open()
        self._groups: dict[tuple[str, str], SqliteGroup] = {}
        self._by_number: dict[int, SqliteGroup] = {}
        self._by_topic: dict[str, set[SqliteGroup]] = {}
        self._problem: BackendError | None = None
        self._beats: dict[int, tuple[int, float]] = {}
        self._last_beat = float("-inf")
        owner = await database.write(partial(upkeep.register_owner, self._neighbours.name))
        shared = Shared(
            database=database,
            owner=owner,
            now=self._now,
            beat=self._beat,
            freed=self._neighbours.ring,
            problem=self._note,
            closed=self._forget,
        )
        self._ledger = Ledger(shared, self._by_number.get)
        self._sweeper = Sweeper(database, self.context.clock, settings.retention, settings.max_size)
        self._opened = shared
        stack.push_async_callback(self._close, shared)
        await self._find_dead(shared)
        name = self.context.name
        for title, work in (
            ("sweep", self._sweeper.run()),
            ("look at the others", self._look_forever(shared)),
            ("give signs of life", self._beat_forever()),
        ):
            stack.push_async_callback(_end, asyncio.create_task(work, name=f"{name}: {title}"))

    async def ping(self) -> None:
        await self._open().database.read(upkeep.payload)
        if self._problem is not None:
            raise self._problem

    async def publish(self, request: PublishRequest) -> None:
        message = self._message(request.topic, request.data, request.content_type, request.metadata)
        work = partial(statements.publish, message, self.settings.max_size)
        try:
            await self._open().database.write(work, atomic=True)
        except BrokerFullError:
            if not await self._sweeper.make_room():
                raise
            await self._open().database.write(work, atomic=True)
        self._published(request.topic)

    async def bulk_publish(
        self, topic: str, entries: Sequence[BulkEntry], metadata: Mapping[str, str]
    ) -> list[BulkFailure]:
        failures: list[BulkFailure] = []
        for start in range(0, len(entries), CHUNK):
            chunk = entries[start : start + CHUNK]
            refused = await self._publish_chunk(topic, chunk, metadata)
            if any(isinstance(error, BrokerFullError) for _, error in refused) and await self._sweeper.make_room():
                refused = await self._publish_chunk(topic, [entry for entry, _ in refused], metadata)
            failures += [BulkFailure(entry.entry_id, error) for entry, error in refused]
        self._published(topic)
        return failures

    async def subscribe(self, request: SubscribeRequest, handler: Handler) -> Subscription:
        shared = self._open()
        key = (request.topic, request.group)
        _check_text(*key)
        ordered = _flag(request.metadata, "ordered")
        while (known := self._groups.get(key)) is None or known.closing is not None:
            if known is not None and known.closing is not None:
                await asyncio.wait([known.closing])  # what it gives back must not be mixed up with what this one takes
                continue
            number = await shared.database.write(partial(statements.register_group, *key))
            self._open()
            if key not in self._groups:
                self._add(SqliteGroup(shared, self._ledger, number, *key, self._backoff(), ordered=ordered))
        if known.ordered != ordered:
            raise BackendError(
                f"the group {known.name} is subscribed to {known.topic} with ordered: {str(known.ordered).lower()}: "
                "all its subscriptions must say the same",
            )
        member = Member(known, request, handler)
        known.join(member)
        return member

    # ------------------------------------------------------------------------------------------------------------------

    def _open(self) -> Shared:
        if self._opened is None:
            raise BackendError(f"broker {self.context.name} is not open")
        return self._opened

    def _now(self) -> int:
        return int(self.context.clock.now().timestamp() * 1000)

    def _backoff(self) -> Backoff:
        return Backoff(self.settings.redeliver_interval, self.settings.max_redeliver_interval)

    def _message(self, topic: str, data: bytes, content_type: str, metadata: Mapping[str, str]) -> NewMessage:
        """The row of a message. Raises `BackendError` for what is no text."""
        _check_text(topic, content_type)
        now = self._now()
        if not metadata:
            return NewMessage(topic, now, None, None, content_type, None, data)
        seconds = time_to_live(metadata)
        expires = None if seconds is None else now + int(seconds * 1000)
        try:
            encoded = msgspec.json.encode(metadata)
        except UnicodeEncodeError as error:
            raise BackendError("the metadata is not valid Unicode") from error
        return NewMessage(topic, now, expires, _value(metadata, "partitionkey") or None, content_type, encoded, data)

    async def _publish_chunk(
        self, topic: str, entries: Sequence[BulkEntry], metadata: Mapping[str, str]
    ) -> list[tuple[BulkEntry, BackendError]]:
        """Write them; those that were not written, and why."""
        try:
            messages = [
                self._message(
                    topic,
                    entry.data,
                    entry.content_type,
                    {**metadata, **entry.metadata} if entry.metadata else metadata,
                )
                for entry in entries
            ]
            work = partial(statements.publish_many, messages, self.settings.max_size)
            answers = await self._open().database.write(work, atomic=True)
        except BackendError as error:
            return [(entry, error) for entry in entries]
        return [(entry, error) for entry, error in zip(entries, answers, strict=True) if error is not None]

    def _published(self, topic: str) -> None:
        for group in self._by_topic.get(topic, ()):
            group.wake()
        self._neighbours.ring(topic)

    def _wake(self, topics: Collection[str] | None) -> None:
        """Other processes have published to these topics, or given back messages of them; `None`: to any."""
        for topic in self._by_topic if topics is None else topics:
            for group in self._by_topic.get(topic, ()):
                group.wake()

    def _add(self, group: SqliteGroup) -> None:
        self._groups[group.topic, group.name] = group
        self._by_number[group.number] = group
        self._by_topic.setdefault(group.topic, set()).add(group)

    def _forget(self, group: SqliteGroup) -> None:
        del self._groups[group.topic, group.name]
        del self._by_number[group.number]
        self._by_topic[group.topic].discard(group)
        if not self._by_topic[group.topic]:
            del self._by_topic[group.topic]

    def _note(self, problem: BackendError | None) -> None:
        self._problem = problem

    # Signs of life ----------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Let others see that this process lives, if it is time. Raises `BackendError`."""
        now = asyncio.get_running_loop().time()
        if now - self._last_beat < self.settings.visibility_timeout / 4:
            return
        shared = self._open()
        self._last_beat = now
        work = partial(upkeep.beat, shared.owner, self._neighbours.name)
        shared.database.write(work).add_done_callback(self._beaten)

    def _beaten(self, future: asyncio.Future[bool]) -> None:
        if future.cancelled() or future.exception() is not None:
            self._last_beat = float("-inf")
        elif not future.result():
            for group in tuple(self._by_number.values()):
                group.deposed()

    async def _beat_forever(self) -> None:
        while True:
            await asyncio.sleep(self.settings.visibility_timeout / 3)
            if any(group.owned for group in self._by_number.values()):
                with suppress(BackendError):
                    self._beat()

    async def _look_forever(self, shared: Shared) -> None:
        """Look after the others, in case that a ring was lost or somebody died."""
        while True:
            was_alone = self._neighbours.alone
            await asyncio.sleep(random.uniform(*LOOK))  # noqa: S311 - spreads load
            self._neighbours.look()
            if was_alone and self._neighbours.alone:
                continue
            with suppress(BackendError):
                await self._find_dead(shared)
                for number in await shared.database.read(statements.find_groups_with_work):
                    group = self._by_number.get(number)
                    if group is not None:
                        group.wake()

    async def _find_dead(self, shared: Shared) -> None:
        """Take the messages away from processes that have died or hang."""
        owners = await shared.database.read(upkeep.find_owners)
        now = asyncio.get_running_loop().time()
        seen: dict[int, tuple[int, float]] = {}
        freed = False
        for number, name, beat in owners:
            if number == shared.owner:
                continue
            if not self._neighbours.lives(name):
                freed |= await shared.database.write(partial(upkeep.depose, number, None), atomic=True)
                self._neighbours.forget(name)
                continue
            last, since = self._beats.get(number, (beat, now))
            seen[number] = (beat, since if last == beat else now)
            if last == beat and now - since > self.settings.visibility_timeout:
                freed |= await shared.database.write(partial(upkeep.depose, number, beat), atomic=True)
        self._beats = seen
        for name in self._neighbours.strangers({name for _, name, _ in owners}):
            if not self._neighbours.lives(name):
                self._neighbours.forget(name)
        if freed:
            self._wake(None)

    async def _close(self, shared: Shared) -> None:
        self._opened = None
        members = [member for group in self._by_number.values() for member in group.members]
        closing = [group.closing for group in self._by_number.values() if group.closing is not None]
        await asyncio.gather(*(member.stop(0) for member in members), *closing, return_exceptions=True)
        await self._sweeper.end()
        self._ledger.end()
        with suppress(BackendError):
            await shared.database.write(partial(upkeep.resign, shared.owner), atomic=True)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _check_text(*texts: str) -> None:
    """Raise `BackendError` for half a surrogate pair, which no file can hold as text."""
    for text in texts:
        try:
            if not text.isascii():
                text.encode()
        except UnicodeEncodeError as error:
            raise BackendError("the topic, group or content type is not valid Unicode") from error


def _value(metadata: Mapping[str, str], name: str) -> str:
    return next((value for key, value in metadata.items() if key.lower() == name), "")


def _flag(metadata: Mapping[str, str], name: str) -> bool:
    return _value(metadata, name).strip().lower() in TRUE_WORDS
