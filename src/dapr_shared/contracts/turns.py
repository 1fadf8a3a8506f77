"""The few connections of one component, shared by many apps: they take turns, and none has all of them.

Part of step 4 of the request road. Where a component carries out a bounded number of calls at a time, one app's slow
queries would take every place for as long as they last. So an app has three quarters of the places at most, and where
apps wait, each free place goes to the app that has waited longest since its last turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dapr_shared.core.ids import AppRef

TURN_TIMEOUT = 30.0
"""Seconds that a call waits for its turn; then it is refused."""


class NoTurnError(Exception):
    """The call's turn did not come in time."""


class Turns:
    """The places of one component. All methods belong to the event loop."""

    __slots__ = ("_busy", "_running", "_waiting", "share", "timeout", "total")

    def __init__(self, total: int, timeout: float = TURN_TIMEOUT) -> None:
        """`total`: calls at a time, at least 1. `timeout`: seconds that a call waits."""
        self.total = total
        self.timeout = timeout
        self.share = max(1, total - max(1, total // 4))
        """Places that one app may have."""
        self._running = 0
        self._busy: dict[AppRef, int] = {}
        self._waiting: dict[AppRef, deque[asyncio.Future[None]]] = {}
        """The waiting calls of each app; the app whose turn is next stands first."""

    def try_enter(self, app: AppRef) -> bool:
        """Take a place, if there is one for this app now; `leave` gives it back."""
        if self._running >= self.total or app in self._waiting or self._busy.get(app, 0) >= self.share:
            return False
        self._take(app)
        return True

    async def wait(self, app: AppRef) -> None:
        """Wait for a place and take it. Raises `NoTurnError`; cancelled, nothing is taken."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(app, deque()).append(turn)
        try:
            async with asyncio.timeout(self.timeout):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it came at the same time
                self.leave(app)
            else:
                self._forget(app, turn)
            if isinstance(error, TimeoutError):
                raise NoTurnError from error
            raise

    def leave(self, app: AppRef) -> None:
        """The call has ended: its place is free."""
        self._running -= 1
        left = self._busy[app] - 1
        if left:
            self._busy[app] = left
        else:
            del self._busy[app]
        while self._running < self.total:
            following = next((one for one in self._waiting if self._busy.get(one, 0) < self.share), None)
            if following is None:
                return
            queue = self._waiting.pop(following)
            turn = queue.popleft()
            if queue:
                self._waiting[following] = queue  # behind the others
            if not turn.done():
                self._take(following)
                turn.set_result(None)

    def _take(self, app: AppRef) -> None:
        self._running += 1
        self._busy[app] = self._busy.get(app, 0) + 1

    def _forget(self, app: AppRef, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(app)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[app]
