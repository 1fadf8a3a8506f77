"""A clock that tests turn by hand, and a sleep that turns it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self._start = datetime(2026, 1, 1, tzinfo=UTC)
        self._passed = 0.0
        self.slept: list[float] = []
        """Seconds of each `sleep`, in order."""

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        return self._passed

    def advance(self, seconds: float) -> None:
        self._passed += seconds

    async def sleep(self, seconds: float) -> None:
        """Return at once, with the clock so many seconds later."""
        self.slept.append(seconds)
        self.advance(seconds)
