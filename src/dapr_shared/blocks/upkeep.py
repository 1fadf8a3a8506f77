"""Keeps something in step with what it should be: subscriptions, readings, relays.

Delivery road, step 4 (block). Whatever happened, the answer is the same: look at the present state and do what is
missing. So events may come in any order, twice, or be merged, and a failure is mended by the next look.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dapr_shared.observability.events import Events

RETRY_LONGEST = 30.0
"""Seconds between two looks at most while something fails."""


class Upkeep:
    """Looks when told to, one look at a time. All methods belong to the event loop.

    `look` does what is missing and answers false where something has to be tried again: then it is called again after
    `first` seconds, and after twice as long each time it fails on, up to `RETRY_LONGEST`. What it raises is a defect,
    told as an event, and tried again in the same way. `name` is that of its task, and of the defect.
    """

    def __init__(self, name: str, look: Callable[[], Awaitable[bool]], events: Events, *, first: float = 0.5) -> None:
        self.first = first
        self._name = name
        self._look = look
        self._events = events
        self._delay = first
        self._dirty = False
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def settled(self) -> bool:
        """Whether no look is under way or asked for; one may still be tried again later."""
        return self._task is None and not self._dirty

    def kick(self) -> None:
        """Look soon."""
        self._dirty = True
        if self._task is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._work(), name=self._name)

    def hurry(self) -> None:
        """What failed may well succeed now: the next failure waits for the first delay again."""
        self._delay = self.first

    def again_in(self, seconds: float) -> None:
        """Look again after so long, instead of when that was to be."""
        if self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.kick)

    async def close(self) -> None:
        """Look no more, and end the look that is under way."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        try:
            while self._dirty and not self._closed:
                self._dirty = False
                try:
                    done = await self._look()
                except Exception as error:  # noqa: BLE001 - the next look mends what a defect left, not the end of all
                    self._events.defect(self._name, error)
                    done = False
                if done:
                    self.hurry()
                else:
                    delay, self._delay = self._delay, min(self._delay * 2, RETRY_LONGEST)
                    self.again_in(delay)
        finally:
            self._task = None
