"""Who is at the other end of a TCP connection.

Step 1 of the request road.
"""

from __future__ import annotations

from time import time
from typing import Self


class PeerAddress(str):
    """An address as text, made when the connection was accepted; it costs a request nothing."""

    __slots__ = ("since",)

    since: float
    """Seconds since 1970."""

    def __new__(cls, address: str) -> Self:
        """Made now."""
        made = super().__new__(cls, address)
        made.since = time()
        return made
