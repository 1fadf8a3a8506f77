"""Events of the delivery road: subscriptions, input bindings, changes of configuration.

Beside both roads. A part of `Events`; what every event keeps to stands there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.observability.events_base import EventsBase, of_app, of_subscription, repeats

if TYPE_CHECKING:
    from dapr_shared.core.ids import AppRef


class DeliveryEvents(EventsBase):
    """See `Events`."""

    def subscriptions_unknown(self, app: AppRef, problem: str) -> None:
        """An app could not be asked for its subscriptions, or its answer is none: the last good one stays."""
        self.metrics.subscription_problems.child(app.app_id, "unknown").inc()
        held = self._limiter.held_back("subscriptions_unknown", app.app_id, app.namespace)
        if held is not None:
            self._pubsub.warning(
                "subscriptions not read", app_id=app.app_id, namespace=app.namespace, problem=problem, **repeats(held)
            )

    def subscription_started(self, app: AppRef, pubsub: str, topic: str) -> None:
        """An app's subscription runs."""
        self.metrics.subscription_changes.child(app.app_id, "started").inc()
        self._pubsub.info("subscription started", **of_subscription(app, pubsub, topic))

    def subscription_paused(self, app: AppRef, pubsub: str, topic: str, reason: str) -> None:
        """Nothing is delivered for now; the messages wait at the broker."""
        self.metrics.subscription_changes.child(app.app_id, "paused").inc()
        self._pubsub.info("subscription paused", **of_subscription(app, pubsub, topic), reason=reason)

    def subscription_resumed(self, app: AppRef, pubsub: str, topic: str) -> None:
        """Messages are delivered again."""
        self.metrics.subscription_changes.child(app.app_id, "resumed").inc()
        self._pubsub.info("subscription resumed", **of_subscription(app, pubsub, topic))

    def subscription_stopped(self, app: AppRef, pubsub: str, topic: str) -> None:
        """A subscription has ended."""
        self.metrics.subscription_changes.child(app.app_id, "stopped").inc()
        self._pubsub.info("subscription stopped", **of_subscription(app, pubsub, topic))

    def subscription_failed(self, app: AppRef, pubsub: str, topic: str, problem: str) -> None:
        """A subscription cannot run; it is tried again where that may help."""
        self.metrics.subscription_problems.child(app.app_id, "failed").inc()
        self._pubsub.warning("subscription failed", **of_subscription(app, pubsub, topic), problem=problem)

    def delivery_failed(self, app: AppRef, pubsub: str, topic: str, problem: str) -> None:
        """The app did not accept a message; it is redelivered or dead-lettered."""
        self.metrics.subscription_problems.child(app.app_id, "delivery").inc()
        held = self._limiter.held_back("delivery_failed", app.app_id, app.namespace, pubsub, topic)
        if held is not None:
            self._pubsub.warning(
                "delivery failed", **of_subscription(app, pubsub, topic), problem=problem, **repeats(held)
            )

    def message_dropped(self, app: AppRef, pubsub: str, topic: str, problem: str) -> None:
        """A message was done with without having been accepted, as the app or its rules wanted, and is in no dead-letter topic."""
        self.metrics.subscription_problems.child(app.app_id, "dropped").inc()
        held = self._limiter.held_back("message_dropped", app.app_id, app.namespace, pubsub, topic)
        if held is not None:
            self._pubsub.warning(
                "message dropped", **of_subscription(app, pubsub, topic), problem=problem, **repeats(held)
            )

    def bindings_unknown(self, app: AppRef, problem: str) -> None:
        """An app could not be asked which input bindings it wants; it is asked again."""
        self.metrics.binding_problems.child(app.app_id, "unknown").inc()
        held = self._limiter.held_back("bindings_unknown", app.app_id, app.namespace)
        if held is not None:
            self._bindings.warning("input bindings not read", **of_app(app), problem=problem, **repeats(held))

    def binding_started(self, app: AppRef, binding: str) -> None:
        """Events of an input binding go to an app."""
        self.metrics.binding_changes.child(app.app_id, "started").inc()
        self._bindings.info("input binding started", **of_app(app), component=binding)

    def binding_unwanted(self, app: AppRef, binding: str) -> None:
        """The app was asked and does not want an input binding that it could have."""
        self.metrics.binding_changes.child(app.app_id, "unwanted").inc()
        self._bindings.info("input binding not wanted by the app", **of_app(app), component=binding)

    def binding_paused(self, app: AppRef, binding: str, reason: str) -> None:
        """Nothing is brought to the app for now."""
        self.metrics.binding_changes.child(app.app_id, "paused").inc()
        self._bindings.info("input binding paused", **of_app(app), component=binding, reason=reason)

    def binding_resumed(self, app: AppRef, binding: str) -> None:
        """Events go to the app again."""
        self.metrics.binding_changes.child(app.app_id, "resumed").inc()
        self._bindings.info("input binding resumed", **of_app(app), component=binding)

    def binding_stopped(self, app: AppRef, binding: str) -> None:
        """An input binding has ended for an app."""
        self.metrics.binding_changes.child(app.app_id, "stopped").inc()
        self._bindings.info("input binding stopped", **of_app(app), component=binding)

    def binding_failed(self, app: AppRef, binding: str, problem: str) -> None:
        """An input binding cannot be read; it is tried again."""
        self.metrics.binding_problems.child(app.app_id, "failed").inc()
        self._bindings.warning("input binding failed", **of_app(app), component=binding, problem=problem)

    def binding_event_failed(self, app: AppRef, binding: str, problem: str) -> None:
        """The app did not accept an event; whether it comes again is the component's rule."""
        self.metrics.binding_problems.child(app.app_id, "event").inc()
        held = self._limiter.held_back("binding_event_failed", app.app_id, app.namespace, binding)
        if held is not None:
            self._bindings.warning(
                "event not accepted", **of_app(app), component=binding, problem=problem, **repeats(held)
            )

    def binding_output_failed(self, app: AppRef, binding: str, target: str, problem: str) -> None:
        """What an app's answer to an event asked for, a binding to call or state to save, was not done."""
        self.metrics.binding_problems.child(app.app_id, "output").inc()
        held = self._limiter.held_back("binding_output_failed", app.app_id, app.namespace, binding, target)
        if held is not None:
            self._bindings.warning(
                "answer to an event not carried out",
                **of_app(app), component=binding, target=target, problem=problem, **repeats(held),
            )  # fmt: skip

    def configuration_failed(self, app: AppRef, store: str, problem: str) -> None:
        """An app's subscription cannot run at its store; it is tried again."""
        self.metrics.configuration_problems.child(app.app_id, "failed").inc()
        held = self._limiter.held_back("configuration_failed", app.app_id, app.namespace, store)
        if held is not None:
            self._configuration.warning(
                "configuration subscription failed", **of_app(app), component=store, problem=problem, **repeats(held)
            )

    def configuration_not_delivered(self, app: AppRef, store: str, problem: str) -> None:
        """The app answered that it did not take a change, or it has no path that a change could be sent to."""
        self.metrics.configuration_problems.child(app.app_id, "delivery").inc()
        held = self._limiter.held_back("configuration_not_delivered", app.app_id, app.namespace, store)
        if held is not None:
            self._configuration.warning(
                "configuration change not accepted", **of_app(app), component=store, problem=problem, **repeats(held)
            )

    def configuration_overflow(self, app: AppRef, store: str, limit: int) -> None:
        """So many keys have changed while the app did not listen that the changes of some were let go."""
        self.metrics.configuration_problems.child(app.app_id, "overflow").inc()
        held = self._limiter.held_back("configuration_overflow", app.app_id, app.namespace, store)
        if held is not None:
            self._configuration.warning(
                "configuration changes let go", **of_app(app), component=store, limit=limit, **repeats(held)
            )

    def memory_failed(self, file: str, problem: str) -> None:
        """What an app is subscribed to, at brokers or to configuration, could not be read or kept over a restart."""
        self.metrics.subscription_problems.child("", "memory").inc()
        held = self._limiter.held_back("memory_failed", file)
        if held is not None:
            self._pubsub.error("subscriptions not kept", file=file, problem=problem, **repeats(held))
