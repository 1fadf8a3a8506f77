"""What all events share: the loggers, the metrics, and the bound on lines that repeat.

Beside both roads. The parts of `Events` are made of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.core.clock import Clock, SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import FilteringBoundLogger

    from dapr_shared.core.ids import AppRef
    from dapr_shared.observability.dapr_metrics import DaprMetrics

REPEAT_INTERVAL = 1.0
"""Seconds: how often at most a line that requests can cause is written, for each reason. Every one is counted."""

_MOST_KEYS = 1000


class RepeatLimiter:
    """Lets a line through once an interval for each key, and tells how many were held back since."""

    def __init__(self, clock: Clock, interval: float = REPEAT_INTERVAL) -> None:
        self._clock = clock
        self._interval = interval
        self._seen: dict[tuple[str, ...], list[float]] = {}

    def held_back(self, *key: str) -> int | None:
        """How many lines of this key were held back since the last one; `None`: hold this one back too."""
        now = self._clock.monotonic()
        entry = self._seen.get(key)
        if entry is None:
            if len(self._seen) >= _MOST_KEYS:
                self._forget_old(now)
            # Callers can make up keys: past the bound the new ones share one.
            entry = self._seen.setdefault(key if len(self._seen) < _MOST_KEYS else (key[0],), [float("-inf"), 0])
        if now - entry[0] < self._interval:
            entry[1] += 1
            return None
        held = int(entry[1])
        entry[0], entry[1] = now, 0
        return held

    def _forget_old(self, now: float) -> None:
        for key in [key for key, entry in self._seen.items() if now - entry[0] >= self._interval and not entry[1]]:
            del self._seen[key]


class EventsBase:
    """What a part of `Events` writes to."""

    def __init__(
        self, metrics: DaprMetrics, logger: Callable[[str], FilteringBoundLogger], clock: Clock | None = None
    ) -> None:
        self.metrics = metrics
        self._runtime = logger("dapr.runtime")
        self._apps = logger("dapr.runtime.apps")
        self._components = logger("dapr.runtime.components")
        self._resources = logger("dapr.runtime.resources")
        self._identity = logger("dapr.runtime.identity")
        self._pubsub = logger("dapr.runtime.pubsub")
        self._bindings = logger("dapr.runtime.bindings")
        self._configuration = logger("dapr.runtime.configuration")
        self._invoke = logger("dapr.runtime.invoke")
        self._trace = logger("dapr.runtime.trace")
        self._limiter = RepeatLimiter(clock or SystemClock())
        self._told: set[tuple[str, str]] = set()

    def _first(self, what: str, name: str) -> bool:
        key = (what, name)
        if key in self._told or len(self._told) >= _MOST_KEYS:
            return False
        self._told.add(key)
        return True


def repeats(count: int) -> Mapping[str, int]:
    """How many like it were not written since the last line."""
    return {"held_back": count} if count else {}


def given(**fields: str) -> Mapping[str, str]:
    """Those that are not empty."""
    return {name: value for name, value in fields.items() if value}


def of_app(app: AppRef) -> Mapping[str, str]:
    """The fields that name an app."""
    return {"app_id": app.app_id, "namespace": app.namespace}


def of_subscription(app: AppRef, pubsub: str, topic: str) -> Mapping[str, str]:
    """The fields that name a subscription."""
    return {"app_id": app.app_id, "namespace": app.namespace, "pubsub": pubsub, "topic": topic}


def of_component(name: str, kind: str, namespace: str, app_id: str) -> Mapping[str, str]:
    """The fields that name a component."""
    return {"component": name, "component_type": kind, "namespace": namespace, **given(app_id=app_id)}
