"""How many calls an app gets at a time, and how many may wait for their turn.

Step 6a of the request road. A slot that becomes free is handed to a call that waits, so that no newcomer overtakes it:
to each caller in turn, and among the calls of one caller to the one that has waited longest. So a caller with many calls
does not keep the others from the app.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from dapr_shared.contracts.invocation import ChannelBusyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dapr_shared.wire.http.messages import BodyStream

DEFAULT_WAITING = 10_000
"""Calls of one app that may wait for a slot (`CallSlots`)."""


class CallSlots:
    """The calls in flight to one app: counted, and bounded where the app says so.

    For one event loop; nothing here is safe for threads.
    """

    __slots__ = ("_idle", "_limit", "_most_waiting", "_waiting", "in_flight")

    def __init__(self, limit: int = 0, waiting: int = DEFAULT_WAITING) -> None:
        self.in_flight = 0
        """Calls that hold a slot now."""
        self._limit = limit
        """Most calls in flight; 0 means no limit."""
        self._most_waiting = waiting
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """By caller, in the order of their turns; a caller without a waiting call is not in it."""
        self._idle: list[asyncio.Future[None]] = []

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot now."""
        return sum(len(turns) for turns in self._waiting.values())

    def try_take(self) -> bool:
        """Take a slot if there is one; never waits."""
        # While somebody waits, every slot is taken: a slot given back is handed on without becoming free.
        if self._limit and self.in_flight >= self._limit:
            return False
        self.in_flight += 1
        return True

    async def take(self, caller: str = "") -> None:
        """Take a slot, when it is our turn; `caller` is who takes turns with others.

        Raises `ChannelBusyError` when too many wait already. A cancelled wait takes nothing.
        """
        if self.try_take():
            return
        if self.waiting >= self._most_waiting:
            raise ChannelBusyError(
                f"the app has {self.in_flight} calls in flight, its limit, and {self.waiting} more wait"
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()  # cancelled after the slot was handed to us: the next one gets it
            else:
                self._withdraw(caller, turn)
            raise

    def give_back(self) -> None:
        """Give a slot back; once for each one taken."""
        while self._waiting:
            caller, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[caller] = turns  # behind all others: it has had its turn
            if not turn.done():
                turn.set_result(None)
                return
        self.in_flight -= 1
        if not self.in_flight:
            for waiter in self._idle:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle.clear()

    def _withdraw(self, caller: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(caller)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[caller]

    async def idle(self) -> None:
        """Wait until no call is in flight."""
        while self.in_flight:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter


class HeldBody:
    """A streamed body of an answer; the call keeps its slot until the body is finished."""

    __slots__ = ("_body", "_chunks", "_slots")

    def __init__(self, body: BodyStream, slots: CallSlots) -> None:
        self._body = body
        self._chunks: AsyncIterator[bytes] | None = None
        self._slots: CallSlots | None = slots

    @property
    def content_length(self) -> int | None:
        """Announced length in bytes, if any."""
        return self._body.content_length

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._chunks is None:
            self._chunks = aiter(self._body)
        try:
            return await anext(self._chunks)
        except BaseException:
            self._finish()
            raise

    async def read(self, limit: int) -> bytes:
        """All of it; see `BodyStream.read`."""
        try:
            return await self._body.read(limit)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Drop the rest; see `BodyStream.aclose`."""
        try:
            await self._body.aclose()
        finally:
            self._finish()

    def _finish(self) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.give_back()
