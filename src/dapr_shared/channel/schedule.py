"""When to probe whom: one heap for all probes of an instance, instead of a task and a timer each.

Beside both roads. 1,000 absent apps must cost next to nothing (design §5.16), so probes that are due about the same
time start together, and nothing exists for a probe that is not due but its place in the heap.
"""

from __future__ import annotations

import asyncio
import math
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AsyncExitStack

_GRIDS = ((10.0, 1.0), (1.0, 0.25), (0.0, 0.05))
"""From a delay of so many seconds on, probes start only at multiples of so many: waking the process up costs more than
a probe, so that those of long absent apps start together."""

AT_ONCE = 256
"""Probes that run at a time; more wait for one to end."""

AFTER_A_DEFECT = 30.0
"""Seconds until a probe that raised, which none may, is tried again."""


class Scheduled:
    """A probe's place in the schedule."""

    __slots__ = ("due", "probe", "removed", "running")

    def __init__(self, probe: Callable[[], Awaitable[float]], due: float) -> None:
        self.probe = probe
        self.due = due
        self.running = False
        self.removed = False


class ProbeSchedule:
    """Runs probes when they are due; each says itself when it wants to run again. For one event loop."""

    def __init__(self, *, at_once: int = AT_ONCE) -> None:
        self._heap: list[tuple[float, int, Scheduled]] = []
        self._sequence = count()
        self._at_once = at_once
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Handle | None = None
        self._wakes_at = 0.0  # kept here: uvloop's handle of a timer that is due at once does not tell

    async def start(self, stack: AsyncExitStack) -> None:
        """Begin; the stack ends it. Probes added before have waited for this."""
        self._loop = asyncio.get_running_loop()
        stack.push_async_callback(self._stop)
        self._arm()

    def add(self, probe: Callable[[], Awaitable[float]], delay: float = 0.0) -> Scheduled:
        """Run `probe` in `delay` seconds, and again each time as many seconds later as it returns."""
        scheduled = Scheduled(probe, _due(asyncio.get_running_loop().time(), delay))
        self._push(scheduled)
        return scheduled

    def remove(self, scheduled: Scheduled) -> None:
        """Do not run it again. One that is running ends by itself."""
        scheduled.removed = True

    def hurry(self, scheduled: Scheduled, delay: float = 0.0) -> None:
        """Run it in `delay` seconds at the latest. One that is running is not started twice."""
        if scheduled.removed or scheduled.running:
            return
        due = _due(asyncio.get_running_loop().time(), delay)
        if due < scheduled.due:
            scheduled.due = due
            self._push(scheduled)

    def _push(self, scheduled: Scheduled) -> None:
        heappush(self._heap, (scheduled.due, next(self._sequence), scheduled))
        self._arm()

    def _arm(self) -> None:
        """See to it that the timer wakes us when the first one is due."""
        loop = self._loop
        if loop is None or not self._heap or len(self._tasks) >= self._at_once:
            return
        due = max(self._heap[0][0], loop.time())
        if self._timer is not None:
            if self._wakes_at <= due:
                return
            self._timer.cancel()
        self._timer = loop.call_at(due, self._tick)
        self._wakes_at = due

    def _tick(self) -> None:
        """Start what is due."""
        self._timer = None
        loop = self._loop
        if loop is None:
            return
        # Timers of a loop may come a clock's resolution early.
        soon = loop.time() + 0.001
        while self._heap and self._heap[0][0] <= soon and len(self._tasks) < self._at_once:
            due, _, scheduled = heappop(self._heap)
            # A probe that was hurried is in the heap twice; the later entry is stale.
            if scheduled.removed or scheduled.running or due != scheduled.due:
                continue
            scheduled.running = True
            task = loop.create_task(self._run(scheduled), name="app-probe")
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        self._arm()

    async def _run(self, scheduled: Scheduled) -> None:
        delay = AFTER_A_DEFECT
        try:
            delay = await scheduled.probe()
        except Exception as exc:  # noqa: BLE001 - a probe must not end the others
            asyncio.get_running_loop().call_exception_handler({"message": "a probe of an app raised", "exception": exc})
        finally:
            scheduled.running = False
            if not scheduled.removed:
                scheduled.due = _due(asyncio.get_running_loop().time(), delay)
                self._push(scheduled)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._arm()

    async def _stop(self) -> None:
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._heap.clear()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _due(now: float, delay: float) -> float:
    """When a probe starts that wants to in `delay` seconds: then or, on the grid of its delay, a little later."""
    if delay <= 0:
        return now
    grid = next(grid for least, grid in _GRIDS if delay >= least)
    return math.ceil((now + delay) / grid) * grid
