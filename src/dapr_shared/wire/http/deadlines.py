"""Far deadlines of requests, looked at together.

A timer for each request that is set and almost always cancelled costs more than all the rest of waiting for its answer.
So a deadline that is far has none: the connection keeps it, and all connections are looked through once in a while, as
long as any waits.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dapr_shared.wire.http.client_errors import RequestTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dapr_shared.wire.http.client_connection import ClientConnection

FAR = 10.0
"""Seconds from now beyond which a deadline is far."""
LOOK = 1.0
"""Seconds between two looks: by so much a far deadline may be late."""


class Deadlines:
    """The far deadlines of one client, which its open connections keep."""

    __slots__ = ("_connections", "_timer", "looking")

    def __init__(self, connections: Iterable[ClientConnection]) -> None:
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None
        self.looking = False
        """Whether there will be another look; whoever sets a far deadline sees to it with `look_later`."""

    def look_later(self) -> None:
        """Look through the connections in a moment."""
        self.looking = True
        self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)

    def close(self) -> None:
        """Look no more."""
        self.looking = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self.looking = False
        now = asyncio.get_running_loop().time()
        waiting = False
        for connection in list(self._connections):
            deadline = connection.far_deadline
            if deadline is not None and connection.waits:
                waiting = True
                if deadline <= now:
                    connection.fail(late())
        if waiting:
            self.look_later()
        else:
            self._timer = None


def late() -> RequestTimeoutError:
    """What a request fails with whose time is up."""
    return RequestTimeoutError("the origin did not answer in time", sent=True)
