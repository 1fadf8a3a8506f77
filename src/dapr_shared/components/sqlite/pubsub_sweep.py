"""What is removed from the file of `pubsub.sqlite`, and when: by age, by expiry, and by size.

Beside both roads. All of it in small steps, so that other calls come in between.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from dapr_shared.components.sqlite import pubsub_upkeep as upkeep
from dapr_shared.contracts.component import BackendError

if TYPE_CHECKING:
    from dapr_shared.components.sqlite.database import Database
    from dapr_shared.core.clock import Clock

INTERVAL = 60.0
"""Seconds between two sweeps, ± 10 %; shorter where messages are kept for less."""
STEP = 200
"""Messages that one step removes at most."""
ROOM = 0.9
"""Of `maxSize`: to how much a full file is cut down, as far as there is something to remove."""
PAUSE = 1.0
"""Seconds after a look for room that found none, until the next one."""
STEADY = 600.0
"""Seconds that the wall clock must have gone with the machine's own before messages are removed by their age."""
JUMP_MS = 5_000
"""By how much the clocks may part and still count as going together."""


class Sweeper:
    """Removes messages of one file."""

    def __init__(self, database: Database, clock: Clock, retention: float, max_size: int) -> None:
        self._database = database
        self._clock = clock
        self._retention_ms = int(retention * 1000)
        self._interval = min(INTERVAL, max(1.0, retention / 4))
        self._steady = min(STEADY, retention / 4)
        self._max_size = max_size
        self._offset_ms = self._offset()
        self._since = clock.monotonic()
        self._room: asyncio.Task[bool] | None = None
        self._no_room_until = 0.0

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            with suppress(BackendError):  # a locked or full file, say: the next time will do
                await self.sweep()
            await asyncio.sleep(self._interval * random.uniform(0.9, 1.1))  # noqa: S311 - spreads load

    async def sweep(self) -> int:
        """Remove what has expired and what is older than it may be. How many messages."""
        removed = await self._expired()
        if self._clock_is_steady():
            removed += await self._aged()
        return removed

    async def make_room(self) -> bool:
        """The file is full: remove what all groups have done, oldest first. Whether that made room."""
        if self._clock.monotonic() < self._no_room_until:
            return False
        if self._room is None or self._room.done():
            self._room = asyncio.create_task(self._make_room(), name="make room in the broker's file")
        return await asyncio.shield(self._room)

    async def end(self) -> None:
        """Stop making room."""
        if self._room is not None:
            self._room.cancel()
            await asyncio.wait([self._room])

    async def _make_room(self) -> bool:
        removed = await self.sweep()
        goal = int(self._max_size * ROOM)
        after = 0
        while await self._database.read(upkeep.payload) > goal:
            found = await self._database.read(partial(upkeep.find_done, after, STEP))
            if not found:
                break
            after = found[-1]
            removed += await self._remove(found)
        if not removed:
            self._no_room_until = self._clock.monotonic() + PAUSE
        return removed > 0

    async def _expired(self) -> int:
        removed = 0
        while True:
            found = await self._database.read(partial(upkeep.find_expired, self._now(), STEP))
            count = await self._remove(found) if found else 0
            removed += count
            if not count or len(found) < STEP:
                return removed

    async def _aged(self) -> int:
        """Remove what is too old. Those from the future (the clock was wrong then) do not hold up the ones behind."""
        removed = after = 0
        while True:
            now = self._now()
            rows = await self._database.read(partial(upkeep.find_old, after, STEP))
            aged = [number for number, published in rows if published < now - self._retention_ms]
            if aged:
                removed += await self._remove(aged)
            if len(rows) < STEP or any(now - self._retention_ms <= at <= now + JUMP_MS for _, at in rows):
                return removed
            after = rows[-1][0]

    async def _remove(self, numbers: list[int]) -> int:
        return await self._database.write(partial(upkeep.remove, numbers), atomic=True)

    def _now(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def _offset(self) -> int:
        return self._now() - int(self._clock.monotonic() * 1000)

    def _clock_is_steady(self) -> bool:
        """Whether the time of day has not been set for a while: a clock that is wrong for a moment removes nothing."""
        offset, now = self._offset(), self._clock.monotonic()
        if abs(offset - self._offset_ms) > JUMP_MS:
            self._since = now
        self._offset_ms = offset
        return now - self._since >= self._steady
