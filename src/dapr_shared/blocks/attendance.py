"""Whether one app can be called now, as far as is known: what everybody knows of it who calls it of his own accord.

Delivery road, step 4 (block). Subscriptions (`pubsub/app.py`) and presences (`presence.py`) are built on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dapr_shared.channel.base import AppChannel

DOUBT_CHECK = 0.2
"""Seconds until an app that a call did not reach is looked at again."""


class Attendance:
    """What is known of one app."""

    def __init__(self) -> None:
        self.channel: AppChannel | None = None
        self._reachable = False
        self._stopped = ""
        self._doubted = False

    def absent(self) -> str | None:
        """Why the app cannot be called now; `None` when it can."""
        if self._stopped:
            return self._stopped
        if self.channel is None:
            return "the app has no channel"
        if not self._reachable:
            return "the app does not accept connections"
        if not self.channel.healthy:
            return "the app's health check fails"
        if self._doubted:
            return "a call did not reach the app"
        return None

    def _looked_at(self, *, reachable: bool) -> None:
        """Whoever watches the app has looked: there is nothing left to doubt. One that comes is stopped no more."""
        self._reachable = reachable
        self._doubted = False
        if reachable:
            self._stopped = ""

    def _begin_doubt(self) -> bool:
        """A call did not reach the app: it counts as absent until it has been looked at. False: that was known."""
        if self._doubted or not self._reachable:
            return False
        self._doubted = True
        return True
