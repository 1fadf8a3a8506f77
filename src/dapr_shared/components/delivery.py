"""Consumer groups inside the instance: handing messages to handlers, holding them back, giving them back.

First step of the delivery road, for the brokers that leave this to their client. An adapter derives from
`ConsumerGroup` and says what becomes of an accepted, failed or returned message; how many run at a time, pausing,
resuming and stopping are the same for all and are here.
"""

# ruff: noqa: B027, D102 - steps that an adapter may leave out; the contract says what its methods promise

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import msgspec

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import Outcome, Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dapr_shared.contracts.pubsub import Handler, Message, SubscribeRequest

RELEASE_DELAY = 1.0
"""Seconds until a released message comes again where its subscription was not paused: resuming ends the wait."""
CANCEL_TIMEOUT = 5.0
"""Seconds that a cancelled handler has to end; then its message is given back all the same."""
TURNS = 32
"""Messages that one worker hands over before the event loop gets its turn, for handlers that never wait."""
JITTER = 0.1
"""By how much of itself a delay is longer or shorter at random."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a failed message waits: `first` seconds, doubled with each failure, at most `maximum`; ± 10 %."""

    first: float
    maximum: float

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures (at least 1)."""
        doubled = self.first * 2.0 ** min(failures - 1, 62)
        return min(doubled, self.maximum) * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load


class Entry:
    """One message on its way to a handler of the group."""

    __slots__ = ("key", "message", "order")

    def __init__(self, order: int, message: Message, key: str | None = None) -> None:
        self.order = order
        """Its place in the group: lower ones go first."""
        self.message = message
        self.key = key
        """Partition key where order within it is kept by the adapter."""


class Delayed:
    """Entries that wait for a time of their own, with one timer for all."""

    def __init__(self, due: Callable[[list[Entry]], None]) -> None:
        self._due = due
        self._heap: list[tuple[float, int, Entry]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0
        """The timer's time of the loop; uvloop's own handle knows none when it is due at once."""

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, entry: Entry, delay: float) -> None:
        """Let the entry wait `delay` seconds."""
        loop = asyncio.get_running_loop()
        when = loop.time() + delay
        heappush(self._heap, (when, entry.order, entry))
        if self._timer is None or when < self._rings:
            self._set_timer(loop, when)

    def take_all(self) -> list[Entry]:
        """The entries that wait; they wait no more."""
        entries = [entry for _, _, entry in self._heap]
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return entries

    def _set_timer(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._rings = loop.call_at(when, self._ring), when

    def _ring(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        due: list[Entry] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heappop(self._heap)[2])
        if self._heap:
            self._set_timer(loop, self._heap[0][0])
        if due:
            self._due(due)


class ConsumerGroup(ABC):
    """The subscriptions of one group to one topic in this instance, and the messages that are ready for them.

    The adapter adds entries; each goes to one member that has room. Entries go in the order of `Entry.order`, as far
    as they are there; what was given back goes before what is new.
    """

    def __init__(self, topic: str, name: str, backoff: Backoff) -> None:
        self.topic = topic
        self.name = name
        self.members: list[Member] = []
        self._backoff = backoff
        self._fresh: deque[Entry] = deque()
        self._returned: list[tuple[int, Entry]] = []
        self._failed = Delayed(self._retry)
        self._released = Delayed(self._return)

    # What the adapter says --------------------------------------------------------------------------------------------

    @abstractmethod
    def accepted(self, entry: Entry) -> None:
        """The message is done."""

    @abstractmethod
    async def pending(self) -> int | None:
        """As in `Subscription`."""

    @abstractmethod
    def removed(self, member: Member) -> asyncio.Future[None] | None:
        """A member has ended, all of its messages are settled or given back. What it returns is waited for."""

    def counted(self, entry: Entry) -> None:
        """The handler failed; `entry.message.deliveries` is already that of the next delivery."""

    def taken(self) -> None:
        """An entry has left the ready ones: there is room for another."""

    def resumed(self) -> None:
        """A member takes messages again, or a new one does."""

    def paused(self) -> None:
        """A member takes no more messages."""

    # Ready entries ----------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> int:
        """Entries that wait for a member with room."""
        return len(self._fresh) + len(self._returned)

    @property
    def in_hand(self) -> int:
        """Entries with a handler."""
        return sum(member.in_flight for member in self.members)

    @property
    def held_back(self) -> int:
        """Entries that wait after a failure or a release."""
        return len(self._failed) + len(self._released)

    @property
    def capacity(self) -> int:
        """Messages that the members which take messages may have at a time."""
        return sum(member.limit for member in self.members if member.takes)

    @property
    def active(self) -> bool:
        """Whether some member takes messages."""
        return any(member.takes for member in self.members)

    def add(self, entries: Iterable[Entry]) -> None:
        """New entries are ready, in order."""
        self._fresh.extend(entries)
        self.dispatch()

    def put_back(self, entry: Entry) -> None:
        """The entry is ready again; `dispatch` hands it out."""
        heappush(self._returned, (entry.order, entry))

    def next(self) -> Entry | None:
        """Take the next ready entry."""
        if self._returned:
            entry = heappop(self._returned)[1]
        elif self._fresh:
            entry = self._fresh.popleft()
        else:
            return None
        self.taken()
        return entry

    def take_ready(self) -> list[Entry]:
        """Take all ready entries."""
        entries = [entry for _, entry in self._returned]
        entries.extend(self._fresh)
        self._returned.clear()
        self._fresh.clear()
        return entries

    def take_held_back(self) -> list[Entry]:
        """Take all that wait after a failure or a release."""
        return self._failed.take_all() + self._released.take_all()

    def dispatch(self) -> None:
        """Hand ready entries to members with room, in turn."""
        members = self.members
        while self._fresh or self._returned:
            for member in members:
                if member.has_room:
                    break
            else:
                return
            entry = self.next()
            if entry is None:
                return
            if len(members) > 1:
                members.remove(member)
                members.append(member)
            member.begin(entry)

    def settle(self, entry: Entry, outcome: Outcome, member: Member) -> None:
        """A handler has answered."""
        if outcome is Outcome.ACCEPTED:
            self.accepted(entry)
        elif outcome is Outcome.RETRY:
            failures = entry.message.deliveries
            entry.message = msgspec.structs.replace(entry.message, deliveries=failures + 1)
            self.counted(entry)
            self._failed.add(entry, self._backoff.delay(failures))
        elif member.takes:
            self._released.add(entry, RELEASE_DELAY)
        else:
            self.put_back(entry)
            self.dispatch()

    def join(self, member: Member) -> None:
        """A new member takes messages."""
        self.members.append(member)
        self.resume_members()

    def resume_members(self) -> None:
        """A member has begun to take messages: what was released comes at once."""
        for entry in self._released.take_all():
            self.put_back(entry)
        self.resumed()
        self.dispatch()

    def remove(self, member: Member) -> asyncio.Future[None] | None:
        """Forget the member."""
        with suppress(ValueError):
            self.members.remove(member)
        return self.removed(member)

    def _retry(self, due: list[Entry]) -> None:
        self.retry_due(due)

    def retry_due(self, due: list[Entry]) -> None:
        """Failed entries have waited long enough."""
        self._return(due)

    def _return(self, due: list[Entry]) -> None:
        for entry in due:
            self.put_back(entry)
        self.dispatch()


class Member(Subscription):
    """One subscription of a group: at most `limit` handlers run at a time, each in a task of its own."""

    def __init__(self, group: ConsumerGroup, request: SubscribeRequest, handler: Handler) -> None:
        self.limit = max(1, request.max_in_flight)
        self._group = group
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._in_hand: dict[asyncio.Task[None], Entry] = {}
        self._paused = False
        self._stopped = False
        self._quiet = asyncio.Event()
        """Set when it is stopped and no handler runs, or the grace is over."""
        self._ending: asyncio.Task[None] | None = None

    @property
    def takes(self) -> bool:
        """Whether it takes messages: neither paused nor stopped."""
        return not (self._paused or self._stopped)

    @property
    def in_flight(self) -> int:
        """Messages with the handler."""
        return len(self._in_hand)

    @property
    def has_room(self) -> bool:
        """Whether it takes another message now."""
        return len(self._in_hand) < self.limit and not (self._paused or self._stopped)

    def begin(self, entry: Entry) -> None:
        """Give the entry to the handler."""
        task = self._loop.create_task(self._work(entry))
        self._in_hand[task] = entry

    async def pause(self) -> None:
        if self.takes:
            self._paused = True
            self._group.paused()

    async def resume(self) -> None:
        if self._paused and not self._stopped:
            self._paused = False
            self._group.resume_members()

    async def pending(self) -> int | None:
        return await self._group.pending()

    async def stop(self, grace: float) -> None:
        if self._ending is None:
            took, self._stopped = self.takes, True
            if took:
                self._group.paused()
            if not self._in_hand:
                self._quiet.set()
            self._ending = asyncio.create_task(self._end(), name=f"end {self._group.name} on {self._group.topic}")
        try:
            async with asyncio.timeout(max(0.0, grace)):
                await asyncio.shield(self._ending)
        except TimeoutError:
            self._quiet.set()
            await asyncio.shield(self._ending)
        except asyncio.CancelledError:
            self._quiet.set()  # the end goes on, without grace
            raise

    async def _end(self) -> None:
        await self._quiet.wait()
        tasks = tuple(self._in_hand)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT)
        left = list(self._in_hand.values())
        self._in_hand.clear()
        for entry in left:  # of tasks that never began, and of handlers that ignore being cancelled
            self._group.settle(entry, Outcome.RELEASED, self)
        rest = self._group.remove(self)
        if rest is not None:
            with suppress(BackendError):  # the broker finds what was not given back
                await rest

    async def _work(self, first: Entry) -> None:
        """Hand over one message after another while there are any."""
        task = asyncio.current_task()
        if task is None:
            return
        in_hand, group = self._in_hand, self._group
        entry = first
        turns = 0
        while True:
            cancelled = False
            try:
                outcome = await self._handler(entry.message)
            except asyncio.CancelledError:
                outcome, cancelled = Outcome.RELEASED, True
            except Exception:  # noqa: BLE001 - it promised not to; nothing may be lost by it
                outcome = Outcome.RETRY
            if in_hand.pop(task, None) is None:
                return  # given back meanwhile
            group.settle(entry, outcome, self)
            if cancelled:
                break
            turns += 1
            if turns % TURNS == 0:
                await asyncio.sleep(0)
            following = group.next() if self.has_room else None
            if following is None:
                break
            in_hand[task] = entry = following
        if self._stopped and not self._in_hand:
            self._quiet.set()
