"""Other tries for what was refused, and a look at secrets that may have changed.

Assembly of an instance that leaves out what is wrong. Nothing tells that a Secret has come or was changed: reading all
Secrets of a namespace is a right that an instance does not need.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from dapr_shared.runtime.reload import Reloader

FIRST, LONGEST = 30.0, 300.0
"""Seconds until the first other try, doubled each time, and at most. It begins anew when something else is refused."""
SECRETS = 300.0
"""Seconds between two readings of all secrets that apps and components refer to."""
_SPREAD = 0.1
"""Share by which each time differs, so that replicas do not ask together."""


class TryAgain:
    """Runs beside an instance."""

    def __init__(self, reloader: Reloader, *, away: Callable[[], bool]) -> None:
        """`away`: whether asking makes no sense now."""
        self._reloader = reloader
        self._away = away
        self._refused = asyncio.Event()
        reloader.refusals.on_change.append(self._refused.set)

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        pause, before = FIRST, self._reloader.refusals.to_try_again
        secrets_at = loop.time() + _spread(SECRETS)
        try_at = loop.time() + _spread(pause)
        while True:
            at = min(secrets_at, try_at) if self._reloader.refusals.to_try_again else secrets_at
            await self._wait(at - loop.time())
            now = self._reloader.refusals.to_try_again
            if now - before:
                pause, try_at = FIRST, loop.time() + _spread(FIRST)
            before = now
            if loop.time() < at:
                continue
            if self._away():
                secrets_at, try_at = max(secrets_at, loop.time() + FIRST), loop.time() + _spread(FIRST)
            elif at == secrets_at:
                await self._reloader.refresh(quiet=True)
                secrets_at = loop.time() + _spread(SECRETS)
            else:
                await self._reloader.open_missing(quiet=True)
                pause = min(pause * 2, LONGEST)
                try_at = loop.time() + _spread(pause)

    async def _wait(self, seconds: float) -> None:
        """So long, or until something else is refused."""
        self._refused.clear()
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._refused.wait()
        except TimeoutError:
            pass


def _spread(seconds: float) -> float:
    return seconds * random.uniform(1 - _SPREAD, 1 + _SPREAD)  # noqa: S311 - spreads load
