"""Timeouts, retries and circuit breakers as data.

Step 5 of both roads. The rules and defaults are Dapr's (reference behaviours §4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from dapr_shared.resiliency.breaker import CircuitBreaker
    from dapr_shared.resiliency.matching import StatusMatching

Trip: TypeAlias = Callable[[Mapping[str, int]], object]
"""Decides from a breaker's counters whether it opens. Anything but `True` means no; so does a `ValueError`, an
`ArithmeticError` or a `LookupError`, since an expression that fails says nothing about the target."""

COUNTERS = ("requests", "totalSuccesses", "totalFailures", "consecutiveSuccesses", "consecutiveFailures")
"""The counters that a `trip` expression may use."""

INFINITE = -1


class Backoff(StrEnum):
    """How the wait before a retry grows."""

    CONSTANT = "constant"
    EXPONENTIAL = "exponential"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often to try again, and how long to wait before. The defaults are those of a policy without fields."""

    backoff: Backoff = Backoff.CONSTANT
    duration: float = 5.0
    """Seconds before each retry of a constant back-off. An exponential one ignores it."""
    max_retries: int = INFINITE
    """Retries after the first try; negative: no limit."""
    initial_interval: float = 0.5
    """Seconds before the first retry of an exponential back-off."""
    multiplier: float = 1.5
    jitter: float = 0.5
    """Share of the interval by which a wait may be shorter or longer, 0 to 1; exponential only."""
    max_interval: float = 60.0
    """Seconds; an interval (before jitter) grows no longer; exponential only."""
    max_elapsed: float = 900.0
    """Seconds since the start of the first try after which no retry begins; 0: no limit; exponential only."""
    matching: StatusMatching | None = None
    """Which statuses are worth a retry; `None`: all."""

    def waits(self, elapsed: Callable[[], float], random: Callable[[], float]) -> Iterator[float]:
        """The seconds to wait before each retry; it ends when there shall be none.

        `elapsed` tells the seconds since the start of the first try, `random` gives numbers from 0 to 1.
        """
        interval = self.initial_interval
        retries = 0
        while self.max_retries < 0 or retries < self.max_retries:
            retries += 1
            if self.backoff is Backoff.CONSTANT:
                yield self.duration
                continue
            wait = interval * (1 - self.jitter + 2 * self.jitter * random())
            if self.max_elapsed and elapsed() + wait > self.max_elapsed:
                return
            interval = min(interval * self.multiplier, self.max_interval)
            yield wait


@dataclass(frozen=True, slots=True)
class CircuitBreakerPolicy:
    """When to stop calling a target, and when to try it again."""

    max_requests: int = 1
    """Calls let through while half-open; as many successes in a row close the breaker. 0 means 1."""
    interval: float = 0.0
    """Seconds after which a closed breaker forgets its counts; 0: never."""
    timeout: float = 60.0
    """Seconds that it stays open. 0 means 60."""
    trip: Trip | None = None
    """`None`: more than 5 failures in a row."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for one target: the parts that it has, the breaker with its state."""

    name: str = ""
    """For messages and metrics."""
    timeout: float = 0.0
    """Seconds that one try may take; 0: no limit."""
    retry: RetryPolicy | None = None
    breaker: CircuitBreaker | None = None

    @property
    def retries(self) -> bool:
        """Whether it ever tries twice. Where not, a body need not be kept."""
        return self.retry is not None and self.retry.max_retries != 0


NO_POLICY = Policy()
"""One try, for as long as it takes."""
