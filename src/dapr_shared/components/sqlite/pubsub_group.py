"""A consumer group of `pubsub.sqlite` in one instance, and the ledger of what became of its messages.

First step of the delivery road. A group takes messages from the file in batches, a few more than its subscriptions
have room for, and keeps no payload beyond that. What became of messages is written down for all groups together, in one
call after another: while one is being committed, the next is gathered.
"""

# ruff: noqa: D102 - the contract and `ConsumerGroup` say what their methods promise

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from dapr_shared.components.delivery import Backoff, ConsumerGroup, Entry, Member
from dapr_shared.components.sqlite import pubsub_statements as statements
from dapr_shared.components.sqlite.pubsub_statements import Batch, Claim, Settlement, Taken
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dapr_shared.components.sqlite.database import Database

READ_AHEAD = 64
"""Messages of a group that wait in memory for room, at most; never more than there is room for in all."""
MOST_FAILED = 10_000
"""Failed messages of a group that wait in one instance; past it, it takes no further ones until some are due."""
AGAIN = 1.0
"""Seconds until a call to the file that failed is made again."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the groups of one broker share."""

    database: Database
    owner: int
    now: Callable[[], int]
    """Wall clock, in milliseconds."""
    beat: Callable[[], None]
    """Called before messages are taken: others must see that this owner lives."""
    freed: Callable[[str], None]
    """Messages of the topic were given back: other instances may take them."""
    problem: Callable[[BackendError | None], None]
    """The last call for the groups failed; `None`: it succeeded."""
    closed: Callable[[SqliteGroup], None]
    """The group has ended and has nothing any more."""


class SqliteGroup(ConsumerGroup):
    """One group, while it has subscriptions in this instance."""

    def __init__(
        self, shared: Shared, ledger: Ledger, number: int, topic: str, name: str, backoff: Backoff, *, ordered: bool
    ) -> None:
        super().__init__(topic, name, backoff)
        self.number = number
        self.ordered = ordered
        self.owned: set[int] = set()
        """Messages that are this instance's in the file, as far as it knows."""
        self.closing: asyncio.Task[None] | None = None
        self._shared = shared
        self._ledger = ledger
        self._more = True
        """Whether there may be messages to take."""
        self._unsure = True
        """Whether the file may say that this instance has messages of which it does not know."""
        self._fetching: asyncio.Future[Batch] | None = None
        self._again: asyncio.TimerHandle | None = None

    # Called by the broker ---------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """There may be messages to take."""
        self._more = True
        self._fetch()

    def handed_on(self, taken: Taken) -> None:
        """The next message of a key has become this instance's."""
        self.owned.add(taken.id)
        entry = self._entry(taken)
        if self.active:
            self.put_back(entry)
            self.dispatch()
        else:
            self._give_back(entry)

    def deposed(self) -> None:
        """All of its messages were given to others: those that are not with a handler are not its own any more."""
        self.take_ready()
        self.take_held_back()
        self.owned.clear()
        self.wake()

    # Steps of `ConsumerGroup` -----------------------------------------------------------------------------------------

    def accepted(self, entry: Entry) -> None:
        self._ledger.done(self, entry)

    def counted(self, entry: Entry) -> None:
        entry.message = _without_payload(entry.message)
        self._ledger.failed(self, entry)

    def retry_due(self, due: list[Entry]) -> None:
        for entry in due:
            self._give_back(entry)  # and take it again, with its payload, if it has not expired

    def put_back(self, entry: Entry) -> None:
        if self.active:
            super().put_back(entry)
        else:
            self._give_back(entry)

    def taken(self) -> None:
        self._fetch()

    def resumed(self) -> None:
        self.wake()

    def paused(self) -> None:
        if not self.active:
            for entry in self.take_ready() + self.take_held_back():
                self._give_back(entry)

    def removed(self, member: Member) -> asyncio.Future[None] | None:
        del member
        if self.members:
            return None
        if self.closing is None:
            self.closing = asyncio.create_task(self._close(), name=f"close {self.name} on {self.topic}")
        return asyncio.shield(self.closing)

    async def pending(self) -> int:
        await self._ledger.settle_all()
        count = partial(statements.pending_of, self.number, self.topic, self._shared.now())
        return await self._shared.database.read(count)

    # ------------------------------------------------------------------------------------------------------------------

    def _give_back(self, entry: Entry) -> None:
        self._ledger.freed(self, entry)

    def _fetch(self) -> None:
        """Take a batch if there is room for one worth the trip."""
        if not self._more or self._fetching is not None or self._again is not None:
            return
        capacity = self.capacity
        limit = capacity + min(READ_AHEAD, capacity)
        room = limit - self.ready - self.in_hand
        if room < max(1, limit // 4) or self.held_back >= MOST_FAILED:
            return
        shared = self._shared
        known = frozenset(self.owned) if self._unsure else None
        claim = Claim(self.number, self.topic, shared.owner, room, self.ordered, shared.now(), known)
        self._more = False
        try:
            shared.beat()
            self._fetching = shared.database.write(partial(statements.take, claim), atomic=True)
        except BackendError as error:
            self._failed_to_take(error)
        else:
            self._fetching.add_done_callback(self._fetched)

    def _fetched(self, future: asyncio.Future[Batch]) -> None:
        self._fetching = None
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._failed_to_take(error)
            return
        self._unsure = False
        self._shared.problem(None)
        batch = future.result()
        self.owned.update(taken.id for taken in batch.messages)
        entries = [self._entry(taken) for taken in batch.messages]
        if not self.active:
            self._more = True
            for entry in entries:
                self._give_back(entry)
            return
        self._more = self._more or batch.more
        self.add(entries)
        self._fetch()

    def _failed_to_take(self, error: BaseException) -> None:
        self._more = self._unsure = True
        self._shared.problem(error if isinstance(error, BackendError) else BackendError(str(error)))
        if self.closing is None:
            self._again = asyncio.get_running_loop().call_later(AGAIN, self._fetch_again)

    def _fetch_again(self) -> None:
        self._again = None
        self._fetch()

    def _entry(self, taken: Taken) -> Entry:
        metadata: Mapping[str, str] = {}
        if taken.metadata is not None:
            with suppress(msgspec.DecodeError):  # never written by us; the message counts more
                metadata = msgspec.json.decode(taken.metadata, type=dict[str, str])
        message = Message(
            self.topic, taken.data, taken.content_type, metadata, str(taken.id), deliveries=taken.failures + 1
        )
        return Entry(taken.id, message, taken.key)

    async def _close(self) -> None:
        try:
            if self._fetching is not None:
                await asyncio.wait([self._fetching])
            if self._again is not None:
                self._again.cancel()
            await self._ledger.settle_all()
        finally:
            self._shared.closed(self)


class Ledger:
    """What became of messages, of all groups, on its way to the file. What cannot be written is tried again."""

    def __init__(self, shared: Shared, find: Callable[[int], SqliteGroup | None]) -> None:
        self._shared = shared
        self._find = find
        self._next = _nothing()
        self._now: Settlement | None = None
        self._turn: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._topics: dict[int, str] = {}

    def done(self, group: SqliteGroup, entry: Entry) -> None:
        """The delivery is done."""
        if entry.key is None:
            self._next.done.append((group.number, entry.order))
        else:
            self._next.done_in_order.append((group.number, entry.order, entry.key))
        self._begin_soon()

    def failed(self, group: SqliteGroup, entry: Entry) -> None:
        """The delivery failed once more, and stays this instance's."""
        self._next.failed.append((group.number, entry.order))
        self._begin_soon()

    def freed(self, group: SqliteGroup, entry: Entry) -> None:
        """The delivery is given back."""
        self._topics[group.number] = group.topic
        self._next.freed.append((group.number, entry.order))
        self._begin_soon()

    async def settle_all(self) -> None:
        """Return when all is committed. Raises `BackendError`."""
        while self._turn is not None or self._next or self._now:
            self._begin()
            if self._turn is not None:
                await asyncio.shield(self._turn)

    def end(self) -> None:
        """Try no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _begin_soon(self) -> None:
        if self._turn is None and self._timer is None:
            self._begin()

    def _begin(self) -> None:
        if self._turn is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        if self._now is None:
            self._now, self._next = self._next, _nothing()
        self._turn = loop.create_future()
        work = partial(statements.settle, self._now, self._shared.owner, self._shared.now())
        try:
            written = self._shared.database.write(work, atomic=True)
        except BackendError as error:
            nothing: list[Taken] = []
            loop.call_soon(self._ended, nothing, error)
        else:
            written.add_done_callback(self._written)

    def _written(self, future: asyncio.Future[list[Taken]]) -> None:
        error = BackendError("the call was cancelled") if future.cancelled() else future.exception()
        self._ended([] if error is not None else future.result(), error)

    def _ended(self, handed_on: list[Taken], error: BaseException | None) -> None:
        turn, self._turn = self._turn, None
        settled = self._now
        if error is not None:
            self._shared.problem(error if isinstance(error, BackendError) else BackendError(str(error)))
            self._timer = asyncio.get_running_loop().call_later(AGAIN, self._begin)
            if turn is not None:
                turn.set_exception(error)
                turn.exception()  # nobody need wait for it
            return
        self._now = None
        if turn is not None:
            turn.set_result(None)
        if self._next:
            self._begin()
        if settled is not None:
            self._tell(settled, handed_on)

    def _tell(self, settled: Settlement, handed_on: list[Taken]) -> None:
        """Tell the groups what is settled."""
        find = self._find
        for number, message, *_ in (*settled.done, *settled.done_in_order, *settled.freed):
            group = find(number)
            if group is not None:
                group.owned.discard(message)
        for taken in handed_on:
            group = find(taken.group)
            if group is not None:
                group.handed_on(taken)
            else:
                self._next.freed.append((taken.group, taken.id))
                self._begin_soon()
        for number in {number for number, _ in settled.freed}:
            group = find(number)
            if group is not None:
                group.wake()
            if number in self._topics:
                self._shared.freed(self._topics[number])


def _nothing() -> Settlement:
    return Settlement([], [], [], [])


def _without_payload(message: Message) -> Message:
    return msgspec.structs.replace(message, data=b"", metadata={})
