"""Whether an app is healthy, by daprd's rules; and who is told.

Beside both roads: `AppChannel.invoke` refuses calls to an app that is not healthy, and later its subscriptions pause.
`watch.py` decides when to probe.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from dapr_shared.channel.base import AppChannel, HealthAnswer, HealthProperties


class ChannelObserver(Protocol):
    """Who wants to know about apps: events, metrics, later the subscriptions. Called on the event loop; must not raise."""

    def health_changed(self, channel: AppChannel, *, healthy: bool) -> None:
        """The app's health check has turned."""
        ...

    def reachable_changed(self, channel: AppChannel, *, reachable: bool) -> None:
        """The app's port has begun or ceased to accept connections. The first look is a change from unknown."""
        ...

    def health_probed(self, channel: AppChannel, answer: HealthAnswer, seconds: float) -> None:
        """One health probe has ended (metrics `*_healthprobes_*`)."""
        ...


class NobodyObserves:
    """An observer for nobody."""

    def health_changed(self, channel: AppChannel, *, healthy: bool) -> None:
        """See `ChannelObserver`."""

    def reachable_changed(self, channel: AppChannel, *, reachable: bool) -> None:
        """See `ChannelObserver`."""

    def health_probed(self, channel: AppChannel, answer: HealthAnswer, seconds: float) -> None:
        """See `ChannelObserver`."""


class HealthProbe:
    """Probes one app and keeps its channel's `healthy` up to date.

    daprd's semantics (reference daprd-flags §7): unhealthy until the first good probe; `threshold` failures make it
    unhealthy, and they add up: a good probe in between does not forget them, only becoming healthy again does.
    """

    def __init__(
        self,
        channel: AppChannel,
        health: HealthProperties,
        observer: ChannelObserver,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channel = channel
        self._health = health
        self._observer = observer
        self._monotonic = monotonic
        self._failures = 0 if channel.healthy else health.threshold
        self._recorded = float("-inf")
        self.ended = False
        """Set when the app is not watched any more: what a probe in flight finds is of no interest then."""

    @property
    def interval(self) -> float:
        """Seconds between probes."""
        return self._health.interval

    @property
    def failures(self) -> int:
        """Failures that count now; at most the threshold."""
        return self._failures

    async def probe(self) -> HealthAnswer:
        """Probe once and count the outcome."""
        start = self._monotonic()
        answer = await self._channel.probe_health()
        if not self.ended:
            self._observer.health_probed(self._channel, answer, self._monotonic() - start)
        self.record(healthy=answer.healthy)
        return answer

    def absent(self) -> None:
        """Count a failure because nothing listens; at most one an interval, however often somebody looks."""
        # A tenth less: probes come with jitter.
        if self._monotonic() - self._recorded >= self._health.interval * 0.9:
            self.record(healthy=False)

    def record(self, *, healthy: bool) -> None:
        """Count one outcome; tell the observer when the app's health turns."""
        if self.ended:
            return
        self._recorded = self._monotonic()
        threshold = self._health.threshold
        if healthy:
            if self._failures >= threshold:
                self._failures = 0
                self._turn(healthy=True)
        elif self._failures < threshold:
            self._failures += 1
            if self._failures == threshold:
                self._turn(healthy=False)

    def _turn(self, *, healthy: bool) -> None:
        if self._channel.healthy != healthy:
            self._channel.healthy = healthy
            self._observer.health_changed(self._channel, healthy=healthy)
