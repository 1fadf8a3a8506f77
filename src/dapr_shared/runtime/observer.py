"""What the runtime does when an app comes, goes, or changes its health.

Assembly: joins the watch of `channel/` to events, metrics and health.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.core.errors import GrpcCode

if TYPE_CHECKING:
    from dapr_shared.blocks.health import HealthBlock
    from dapr_shared.blocks.presence import Presences
    from dapr_shared.blocks.pubsub.manager import SubscriptionManager
    from dapr_shared.channel.base import AppChannel, HealthAnswer
    from dapr_shared.observability.events import Events

APP_PORT = "app"
"""Name of the health condition: in single-app mode the runtime waits for the app's port (daprd-flags §5)."""


class AppObserver:
    """Told by the watch; answers for `channel.health.ChannelObserver`."""

    def __init__(
        self, events: Events, health: HealthBlock, subscriptions: SubscriptionManager, presences: Presences
    ) -> None:
        self._events = events
        self._health = health
        self._subscriptions = subscriptions
        self._presences = presences

    def health_changed(self, channel: AppChannel, *, healthy: bool) -> None:
        """The app's health check has turned."""
        self._events.app_health_changed(channel.ref, healthy=healthy)
        self._subscriptions.health_changed(channel.ref)
        self._presences.health_changed(channel.ref)

    def reachable_changed(self, channel: AppChannel, *, reachable: bool) -> None:
        """The app's port has begun or ceased to accept connections."""
        if reachable:
            self._health.ready(APP_PORT)  # for good: daprd waits for the port only once
        self._events.app_reachable_changed(channel.ref, reachable=reachable)
        self._subscriptions.reachable_changed(channel.ref, reachable=reachable)
        self._presences.reachable_changed(channel.ref, reachable=reachable)

    def health_probed(self, channel: AppChannel, answer: HealthAnswer, seconds: float) -> None:
        """One health probe has ended."""
        metrics = self._events.metrics
        if channel.properties.protocol in ("grpc", "grpcs"):
            code = GrpcCode.__members__.get(answer.status, GrpcCode.UNAVAILABLE)
            metrics.grpc_health_probe(channel.ref.app_id, code).record(seconds * 1000)
        else:
            status = int(answer.status) if answer.status.isdigit() else 0
            metrics.http_health_probe(channel.ref.app_id, status).record(seconds * 1000)
