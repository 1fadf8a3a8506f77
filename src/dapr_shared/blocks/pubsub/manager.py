"""The subscriptions of all apps of an instance.

Delivery road, step 4 (block). Told by the runtime of apps, resources and components, and by the watch of what apps can
be reached; each app's own state is in `app.py`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dapr_shared.blocks.pubsub.app import AppSubscriptions
from dapr_shared.blocks.pubsub.subscriptions import SubscriptionStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dapr_shared.blocks.pubsub.app import Deliveries, Memory
    from dapr_shared.blocks.pubsub.streaming import StreamingBlock
    from dapr_shared.channel.base import AppChannel
    from dapr_shared.contracts.registry import Components
    from dapr_shared.core.clock import Clock
    from dapr_shared.core.ids import AppRef
    from dapr_shared.observability.events import Events
    from dapr_shared.resources.model import Subscription

STOPPED = "stopped by the shutdown API"
STATES = ("active", "paused", "failed")
"""Of a subscription, in the metadata API and the metrics."""


class SubscriptionManager:
    """Owns every subscription of the instance; the streaming ones, which belong to their gRPC calls, it can end."""

    def __init__(
        self,
        components: Components,
        deliveries: Deliveries,
        streams: StreamingBlock,
        memory: Memory,
        events: Events,
        clock: Clock,
    ) -> None:
        self._components = components
        self._streams = streams
        self._deliveries = deliveries
        self._memory = memory
        self._events = events
        self._clock = clock
        self._apps: dict[AppRef, AppSubscriptions] = {}
        self._reachable: set[AppRef] = set()
        self._closed = False

    async def set_apps(
        self,
        apps: Mapping[AppRef, AppChannel | None],
        declared: Sequence[Subscription],
        changed: frozenset[AppRef],
        grace: float,
    ) -> None:
        """Serve exactly these apps. `changed`: those whose App is another now; `grace`: seconds for those that go."""
        if self._closed:  # a reload that was late: nothing begins while the instance ends
            return
        gone = [self._apps.pop(ref) for ref in list(self._apps) if ref not in apps]
        for ref, channel in apps.items():
            subscriptions = self._apps.get(ref)
            if subscriptions is None:
                subscriptions = self._apps[ref] = AppSubscriptions(
                    ref, self._components, self._deliveries, self._memory, self._events, self._clock
                )
                if ref in self._reachable:
                    subscriptions.reachable_changed(reachable=True)
            subscriptions.set(channel, declared, changed=ref in changed)
        self._reachable &= set(apps)
        self._streams.keep(apps)
        await asyncio.gather(*(subscriptions.close(grace) for subscriptions in gone))

    def components_changed(self) -> None:
        """Components were opened or closed: what waits for one may start, what has lost one stops."""
        for subscriptions in self._apps.values():
            subscriptions.kick()
        self._streams.components_changed()

    def reachable_changed(self, ref: AppRef, *, reachable: bool) -> None:
        """Told by the watch."""
        (self._reachable.add if reachable else self._reachable.discard)(ref)
        subscriptions = self._apps.get(ref)
        if subscriptions is not None:
            subscriptions.reachable_changed(reachable=reachable)

    def health_changed(self, ref: AppRef) -> None:
        """Told by the watch; the channel says whether the app is healthy."""
        subscriptions = self._apps.get(ref)
        if subscriptions is not None:
            subscriptions.kick()

    def refresh(self, ref: AppRef) -> bool:
        """Ask the app again for its subscriptions; whether the instance serves it."""
        subscriptions = self._apps.get(ref)
        if subscriptions is None:
            return False
        subscriptions.refresh()
        return True

    def stop_deliveries(self, ref: AppRef) -> None:
        """The app asked for its shutdown on a shared instance (design §5.6)."""
        subscriptions = self._apps.get(ref)
        if subscriptions is not None:
            subscriptions.stop_deliveries(STOPPED)
        self._streams.end_app(ref, STOPPED)
        self._events.deliveries_stopped(ref)

    async def close(self, grace: float) -> None:
        """End every subscription; what is in flight may take `grace` seconds, then it goes back to the broker."""
        self._closed = True
        apps, self._apps = list(self._apps.values()), {}
        await asyncio.gather(self._streams.close(grace), *(subscriptions.close(grace) for subscriptions in apps))

    async def status(self, ref: AppRef, *, count: bool = True) -> list[SubscriptionStatus]:
        """The app's subscriptions now, in order of pubsub and topic; its streams after them, one row each.

        Without `count` no broker is asked how many messages wait.
        """
        subscriptions = self._apps.get(ref)
        found: list[SubscriptionStatus] = []
        for _, running in sorted(subscriptions.running.items()) if subscriptions is not None else ():
            pending = await running.broker.pending() if count and running.broker is not None else None
            found.append(
                SubscriptionStatus.of(
                    running.wanted, running.state, reason=running.problem, since=running.since, pending=pending
                )
            )
        return found + await self._streams.status(ref, count=count)

    def count(self) -> Mapping[str, Mapping[str, int]]:
        """For each app id, how many subscriptions are in each state; for the metrics."""
        found: dict[str, dict[str, int]] = {}
        for ref, subscriptions in self._apps.items():
            states = found.setdefault(ref.app_id, dict.fromkeys(STATES, 0))
            for running in subscriptions.running.values():
                states[running.state] += 1
        for ref, streams in self._streams.count().items():
            found.setdefault(ref.app_id, dict.fromkeys(STATES, 0))["active"] += streams
        return found
