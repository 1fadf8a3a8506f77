"""What one kind of call, operation or invocation counts: its children in several families, counted together.

Beside both roads: `DaprMetrics` makes them, the pipeline, blocks and channels call `record`.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dapr_shared.observability.metrics import Counter, Histogram


class CallMetrics:
    """What one kind of call counts: how often, how long and how much in each direction."""

    __slots__ = ("completed", "latency", "received", "responses", "sent")

    def __init__(
        self,
        completed: Counter,
        latency: Histogram,
        received: Histogram,
        sent: Histogram,
        responses: Counter | None = None,
    ) -> None:
        self.completed = completed
        self.latency = latency
        self.received = received
        self.sent = sent
        self.responses = responses

    def record(self, milliseconds: float, received: int, sent: int) -> None:
        """Count one finished call; the sizes are of the bodies, in bytes, as this process received and sent them."""
        # Counters and `Histogram.observe` without their calls: three of 142 of a state get, six of an invocation.
        self.completed.value += 1
        latency = self.latency
        latency.counts[0 if milliseconds <= latency.first else bisect_left(latency.bounds, milliseconds)] += 1
        latency.sum += milliseconds
        sizes = self.received
        sizes.counts[0 if received <= sizes.first else bisect_left(sizes.bounds, received)] += 1
        sizes.sum += received
        sizes = self.sent
        sizes.counts[0 if sent <= sizes.first else bisect_left(sizes.bounds, sent)] += 1
        sizes.sum += sent
        if self.responses is not None:
            self.responses.value += 1


class OperationMetrics:
    """What one kind of operation or probe counts: how often and how long."""

    __slots__ = ("count", "latency")

    def __init__(self, count: Counter, latency: Histogram) -> None:
        self.count = count
        self.latency = latency

    def record(self, milliseconds: float) -> None:
        """Count one."""
        self.count.value += 1
        latency = self.latency
        latency.counts[0 if milliseconds <= latency.first else bisect_left(latency.bounds, milliseconds)] += 1
        latency.sum += milliseconds


class BulkOperationMetrics:
    """What one kind of bulk operation counts: how often, how many messages and how long."""

    __slots__ = ("count", "events", "latency")

    def __init__(self, count: Counter, events: Counter, latency: Histogram) -> None:
        self.count = count
        self.events = events
        self.latency = latency

    def record(self, milliseconds: float, events: int) -> None:
        """Count one, of so many messages."""
        self.count.inc()
        self.events.inc(events)
        self.latency.observe(milliseconds)


class InvocationMetrics:
    """What one kind of service invocation counts, on both ends where both are here."""

    __slots__ = ("_counters", "_latency")

    def __init__(self, counters: tuple[Counter, ...], latency: Histogram) -> None:
        self._counters = counters
        self._latency = latency

    def record(self, milliseconds: float) -> None:
        """Count one finished invocation."""
        for counter in self._counters:
            counter.value += 1
        self._latency.observe(milliseconds)
