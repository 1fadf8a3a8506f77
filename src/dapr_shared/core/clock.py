"""The clock, as a thing that can be passed in: tests use one that they turn by hand."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time of day and the time that has passed."""

    def now(self) -> datetime:
        """Time of day, UTC. It may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since some start. It never goes back."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """See `Clock`."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See `Clock`."""
        return time.monotonic()
