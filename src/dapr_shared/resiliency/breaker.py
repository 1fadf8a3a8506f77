"""The circuit breaker: after too many failures a target is left alone for a while.

Step 5 of both roads. The state machine is that of sony/gobreaker, which Dapr uses (reference behaviours §4). The state
belongs to this instance (design §5.12).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from dapr_shared.core.clock import Clock, SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dapr_shared.resiliency.policy import CircuitBreakerPolicy


class BreakerState(StrEnum):
    """Under the names that Dapr's metrics and logs use."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class CircuitBreakerError(Exception):
    """The breaker lets no call through. Never worth a retry."""


class CircuitOpenError(CircuitBreakerError):
    """The breaker is open."""

    def __init__(self) -> None:
        super().__init__("circuit breaker is open")


class TooManyRequestsError(CircuitBreakerError):
    """The breaker is half-open, and as many calls as it lets through are under way."""

    def __init__(self) -> None:
        super().__init__("too many requests")


class CircuitBreaker:
    """One breaker. Each call enters, and leaves with its outcome; `enter` may refuse it."""

    def __init__(
        self,
        name: str,
        policy: CircuitBreakerPolicy,
        *,
        clock: Clock | None = None,
        on_change: Callable[[CircuitBreaker, BreakerState], None] | None = None,
    ) -> None:
        """`on_change` is called with the breaker in its new state, and the state before."""
        self.name = name
        self._clock = clock or SystemClock()
        self._on_change = on_change
        self._max_requests = policy.max_requests or 1
        self._interval = policy.interval
        self._timeout = policy.timeout or 60.0
        self._trip = policy.trip
        self._state = BreakerState.CLOSED
        self._generation = 0
        self._begin_generation()

    @property
    def state(self) -> BreakerState:
        """The state now."""
        self._turn()
        return self._state

    @property
    def counters(self) -> Mapping[str, int]:
        """What a `trip` expression sees; since the state changed or, when closed, the interval began."""
        return {
            "requests": self._requests,
            "totalSuccesses": self._successes,
            "totalFailures": self._failures,
            "consecutiveSuccesses": self._successes_in_a_row,
            "consecutiveFailures": self._failures_in_a_row,
        }

    def enter(self) -> int:
        """A call begins. Returns what `leave` takes. Raises `CircuitOpenError` or `TooManyRequestsError`."""
        self._turn()
        if self._state is BreakerState.OPEN:
            raise CircuitOpenError
        if self._state is BreakerState.HALF_OPEN and self._requests >= self._max_requests:
            raise TooManyRequestsError
        self._requests += 1
        return self._generation

    def leave(self, generation: int, *, success: bool | None) -> None:
        """A call that entered has ended. A call from before the last change of state counts no more.

        `success=None`: it was given up by its caller, which says nothing about the target; its place is free again.
        (gobreaker counts it as a failure: here one caller that hangs up must not close the way for others.)
        """
        self._turn()
        if generation != self._generation:
            return
        if success is None:
            self._requests -= 1
        elif success:
            self._successes += 1
            self._successes_in_a_row += 1
            self._failures_in_a_row = 0
            if self._state is BreakerState.HALF_OPEN and self._successes_in_a_row >= self._max_requests:
                self._change(BreakerState.CLOSED)
        elif self._state is BreakerState.HALF_OPEN:
            self._change(BreakerState.OPEN)
        else:
            self._failures += 1
            self._failures_in_a_row += 1
            self._successes_in_a_row = 0
            if self._trips():
                self._change(BreakerState.OPEN)

    def _trips(self) -> bool:
        if self._trip is None:
            return self._failures_in_a_row > 5
        try:
            return self._trip(self.counters) is True
        except (ValueError, ArithmeticError, LookupError):
            return False

    def _turn(self) -> None:
        """Do what time has brought: a closed breaker forgets, an open one becomes half-open."""
        if self._expiry is None or self._clock.monotonic() <= self._expiry:
            return
        if self._state is BreakerState.CLOSED:
            self._begin_generation()
        elif self._state is BreakerState.OPEN:
            self._change(BreakerState.HALF_OPEN)

    def _change(self, state: BreakerState) -> None:
        before, self._state = self._state, state
        self._begin_generation()
        if self._on_change is not None:
            self._on_change(self, before)

    def _begin_generation(self) -> None:
        self._generation += 1
        self._requests = self._successes = self._failures = 0
        self._successes_in_a_row = self._failures_in_a_row = 0
        lasts = {BreakerState.CLOSED: self._interval, BreakerState.OPEN: self._timeout}.get(self._state, 0.0)
        self._expiry = self._clock.monotonic() + lasts if lasts > 0 else None
