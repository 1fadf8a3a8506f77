"""Far deadlines of requests, looked at together.

A timer for each request that is set and almost always cancelled costs more than all the rest of waiting for its answer.
So a deadline that is far has none: what is in flight is looked through once in a while, as long as anything is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dapr_shared.wire.http.client_errors import RequestTimeoutError

if TYPE_CHECKING:
    from dapr_shared.wire.http.client_connection import ClientConnection, ClientResponse

FAR = 10.0
"""Seconds from now beyond which a deadline is far."""
LOOK = 1.0
"""Seconds between two looks: by so much a far deadline may be late."""


class Deadlines:
    """The far deadlines of one client."""

    def __init__(self) -> None:
        self._far: dict[asyncio.Future[ClientResponse], tuple[float, ClientConnection]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(
        self,
        answer: asyncio.Future[ClientResponse],
        deadline: float,
        connection: ClientConnection,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Give the answer up at its deadline, a time of the loop, unless it is forgotten before."""
        self._far[answer] = deadline, connection
        if self._timer is None:
            self._timer = loop.call_later(LOOK, self._look)

    def forget(self, answer: asyncio.Future[ClientResponse]) -> None:
        """The answer has come, or nobody waits for it."""
        self._far.pop(answer, None)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for answer, (deadline, connection) in list(self._far.items()):
            if deadline <= now:
                del self._far[answer]
                connection.give_up(answer, late())
        self._timer = loop.call_later(LOOK, self._look) if self._far else None


def late() -> RequestTimeoutError:
    """What a request fails with whose time is up."""
    return RequestTimeoutError("the origin did not answer in time", sent=True)
