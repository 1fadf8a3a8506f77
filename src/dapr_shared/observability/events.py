"""Named events: what operators are told, each one structured log line and one metric.

Beside both roads. The runtime makes one `Events` and passes it on; blocks and adapters have no loggers of their own.
Parameters take names, reasons and addresses: never a token, a payload or a secret. A reason is one of a few fixed words,
because it becomes a label; what is particular goes into `problem`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dapr_shared.core.clock import Clock, SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from structlog.typing import FilteringBoundLogger

    from dapr_shared.core.ids import AppRef
    from dapr_shared.observability.dapr_metrics import DaprMetrics
    from dapr_shared.observability.spans import SpanRecord

REPEAT_INTERVAL = 1.0
"""Seconds: how often at most a line that requests can cause is written, for each reason. Every one is counted."""

_MOST_KEYS = 1000
_FEW_DAYS = 7.0
_TLS_TROUBLES = {
    "plain_text": "a client spoke plain HTTP to a TLS port: it should use https://",
    "tls": "a client spoke TLS to a port without TLS: it should use http://, or give this instance --tls-cert",
    "client_certificate": "a client certificate was refused",
}


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


class Events:
    """All events of one instance. `logger` makes the logger of a scope (`Logs.logger`)."""

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

    # The instance ----------------------------------------------------------------------------------------------------
    def starting(self, version: str, mode: str, apps: int) -> None:
        """The process has read its settings and starts; `apps` is how many it knows."""
        self.metrics.ready.child().set(0)
        self._runtime.info("starting", version=version, mode=mode, apps=apps)

    def listening(self, listener: str, protocol: str, address: str) -> None:
        """A listener accepts connections; `listener` names it: `public`, `api` or the app that it belongs to."""
        self.metrics.connections.child(listener, protocol).set(0)
        self._runtime.info("listening", listener=listener, protocol=protocol, address=address)

    def listener_failed(self, problem: str) -> None:
        """One of several addresses could not be bound; the others are served."""
        self.metrics.listener_failures.child().inc()
        self._runtime.warning("listener not opened", problem=problem)

    def tls_loaded(self, certificate: str, *, days_left: float, again: bool) -> None:
        """The certificate of the shared listeners is in force; `again`: its files changed. A late one is a warning."""
        self.metrics.tls_loads.child("done").inc()
        log = self._runtime.info if days_left > _FEW_DAYS else self._runtime.warning
        log("TLS certificate in force", certificate=certificate, days_left=round(days_left, 1), reloaded=again)

    def tls_load_failed(self, problem: str) -> None:
        """The TLS files changed and are wrong: what was served before stays."""
        self.metrics.tls_loads.child("failed").inc()
        self._runtime.error("TLS certificate not reloaded, the former one stays in force", problem=problem)

    def tls_trouble(self, listener: str, reason: str, peer: str, problem: str) -> None:
        """A connection came to nothing over TLS. Every one is counted.

        `reason`: `plain_text` (a client spoke no TLS to a TLS port), `tls` (the other way round), `client_certificate`,
        `handshake`, `timeout`, `too_many`.
        """
        self.metrics.tls_troubles.child(listener, reason).inc()
        held = self._limiter.held_back("tls_trouble", listener, reason)
        if held is not None:
            self._identity.warning(
                _TLS_TROUBLES.get(reason, "TLS handshake failed"), listener=listener, reason=reason, peer=peer,
                **_given(problem=problem), **_held(held),
            )  # fmt: skip

    def ready(self, seconds: float) -> None:
        """All is open; `seconds` since the start."""
        self.metrics.ready.child().set(1)
        self._runtime.info("ready", seconds=round(seconds, 3))

    def app_process_started(self, app_id: str, pid: int) -> None:
        """The run has started the command of an app."""
        self.metrics.app_processes.child("started").inc()
        self._apps.info("app process started", app_id=app_id, pid=pid)

    def app_process_failed(self, app_id: str, problem: str) -> None:
        """The command of an app cannot be started; the other apps go on."""
        self.metrics.app_processes.child("failed").inc()
        self._apps.info("app process cannot start", app_id=app_id, problem=problem)

    def app_process_ended(self, app_id: str, code: int) -> None:
        """The command of an app has ended, with this exit code or by the signal of this negative number."""
        self.metrics.app_processes.child("ended").inc()
        self._apps.info("app process ended", app_id=app_id, code=code)

    def stopping(self, reason: str) -> None:
        """The instance takes no new work; `reason` says who wants it."""
        self.metrics.ready.child().set(0)
        self._runtime.info("stopping", reason=reason)

    def drain_started(self, what: str, calls: int, seconds: float) -> None:
        """`what` (the instance, an app, a component) is given `seconds` to end its `calls`."""
        self.metrics.drains.child("started").inc()
        self._runtime.info("draining", what=what, calls=calls, seconds=seconds)

    def drain_done(self, what: str, seconds: float) -> None:
        """All calls have ended, after `seconds`."""
        self.metrics.drains.child("done").inc()
        self._runtime.info("drained", what=what, seconds=round(seconds, 3))

    def drain_timed_out(self, what: str, calls: int) -> None:
        """`calls` did not end in time and were cancelled."""
        self.metrics.drains.child("timed_out").inc()
        self._runtime.warning("drain timed out, calls were cancelled", what=what, calls=calls)

    def defect(self, where: str, error: BaseException, trace: str = "") -> None:
        """An exception that nothing expected. `where` names the code; `trace` is what the caller was told."""
        self.metrics.defects.child(where).inc()
        held = self._limiter.held_back("defect", where, type(error).__name__)
        if held is not None:
            self._runtime.error("defect", where=where, trace=trace, **_held(held), exc_info=error)

    def setting_without_effect(self, setting: str, why: str = "") -> None:
        """A flag or variable was given that this version takes but does not act on. Told once."""
        self.metrics.without_effect.child(setting).inc()
        if self._first("setting", setting):
            self._runtime.warning("setting without effect", setting=setting, **_given(why=why))

    def span(self, span: SpanRecord) -> None:
        """A sampled span of an app whose Configuration says `tracing.stdout`."""
        self.metrics.spans.child("stdout").inc()
        self._trace.info(
            "span", name=span.name, app_id=span.service, kind=span.kind, trace_id=span.trace_id, span_id=span.span_id,
            parent_id=span.parent_id, milliseconds=round((span.end - span.start) / 1e6, 3), **_given(error=span.error or ""),
            attributes=dict(span.attributes),
        )  # fmt: skip

    def spans_dropped(self, target: str, reason: str, count: int, problem: str) -> None:
        """Spans that were not exported. `reason`: `queue_full`, `export`, `shutdown`, `missing` (a package)."""
        self.metrics.spans_dropped.child(target, reason).inc(count)
        held = self._limiter.held_back("spans_dropped", target, reason)
        if held is not None:
            self._trace.warning(
                "spans dropped", target=target, reason=reason, count=count, **_given(problem=problem), **_held(held)
            )

    # Apps ------------------------------------------------------------------------------------------------------------
    def app_added(self, app: AppRef, *, channel: str = "") -> None:
        """The instance serves one more app; `channel` is where it is reached."""
        self.metrics.apps.child().inc()
        self.metrics.app_changes.child("added").inc()
        self._apps.info("app added", app_id=app.app_id, namespace=app.namespace, **_given(channel=channel))

    def app_without_token(self, app_id: str, variable: str) -> None:
        """The app of the flags is one of many, and the variable that would hold its token is not set."""
        self.metrics.resource_notices.child().inc()
        self._apps.warning("no token proves this app", app_id=app_id, problem=f"{variable} is not set")

    def app_changed(self, app: AppRef, *, changed: str = "") -> None:
        """An app's resource changed; `changed` names the fields."""
        self.metrics.app_changes.child("changed").inc()
        self._apps.info("app changed", app_id=app.app_id, namespace=app.namespace, **_given(changed=changed))

    def app_removed(self, app: AppRef) -> None:
        """The instance no longer serves an app; what was counted for it is dropped."""
        self.metrics.forget_app(app.app_id)
        self.metrics.apps.child().dec()
        self.metrics.app_changes.child("removed").inc()
        self._apps.info("app removed", app_id=app.app_id, namespace=app.namespace)

    def app_health_changed(self, app: AppRef, *, healthy: bool, problem: str = "") -> None:
        """An app began to pass or to fail its health checks."""
        self.metrics.app_healthy.child(app.app_id).set(int(healthy))
        log = self._apps.info if healthy else self._apps.warning
        message = "app is healthy" if healthy else "app is not healthy"
        log(message, app_id=app.app_id, namespace=app.namespace, **_given(problem=problem))

    def app_reachable_changed(self, app: AppRef, *, reachable: bool) -> None:
        """An app's port began or ceased to accept connections."""
        self.metrics.app_reachable.child(app.app_id).set(int(reachable))
        message = "app is reachable" if reachable else "app is not reachable"
        self._apps.info(message, app_id=app.app_id, namespace=app.namespace)

    def deliveries_stopped(self, app: AppRef) -> None:
        """An app of a shared instance asked for its shutdown: it gets no more deliveries, the instance goes on."""
        self.metrics.app_changes.child("deliveries_stopped").inc()
        self._apps.info("deliveries stopped by the shutdown API", app_id=app.app_id, namespace=app.namespace)

    # Subscriptions ---------------------------------------------------------------------------------------------------
    def subscriptions_unknown(self, app: AppRef, problem: str) -> None:
        """An app could not be asked for its subscriptions, or its answer is none: the last good one stays."""
        self.metrics.subscription_problems.child(app.app_id, "unknown").inc()
        held = self._limiter.held_back("subscriptions_unknown", app.app_id, app.namespace)
        if held is not None:
            self._pubsub.warning(
                "subscriptions not read", app_id=app.app_id, namespace=app.namespace, problem=problem, **_held(held)
            )

    def subscription_started(self, app: AppRef, pubsub: str, topic: str) -> None:
        """An app's subscription runs."""
        self.metrics.subscription_changes.child(app.app_id, "started").inc()
        self._pubsub.info("subscription started", **_subscription(app, pubsub, topic))

    def subscription_paused(self, app: AppRef, pubsub: str, topic: str, reason: str) -> None:
        """Nothing is delivered for now; the messages wait at the broker."""
        self.metrics.subscription_changes.child(app.app_id, "paused").inc()
        self._pubsub.info("subscription paused", **_subscription(app, pubsub, topic), reason=reason)

    def subscription_resumed(self, app: AppRef, pubsub: str, topic: str) -> None:
        """Messages are delivered again."""
        self.metrics.subscription_changes.child(app.app_id, "resumed").inc()
        self._pubsub.info("subscription resumed", **_subscription(app, pubsub, topic))

    def subscription_stopped(self, app: AppRef, pubsub: str, topic: str) -> None:
        """A subscription has ended."""
        self.metrics.subscription_changes.child(app.app_id, "stopped").inc()
        self._pubsub.info("subscription stopped", **_subscription(app, pubsub, topic))

    def subscription_failed(self, app: AppRef, pubsub: str, topic: str, problem: str) -> None:
        """A subscription cannot run; it is tried again where that may help."""
        self.metrics.subscription_problems.child(app.app_id, "failed").inc()
        self._pubsub.warning("subscription failed", **_subscription(app, pubsub, topic), problem=problem)

    def delivery_failed(self, app: AppRef, pubsub: str, topic: str, problem: str) -> None:
        """The app did not accept a message; it is redelivered or dead-lettered."""
        self.metrics.subscription_problems.child(app.app_id, "delivery").inc()
        held = self._limiter.held_back("delivery_failed", app.app_id, app.namespace, pubsub, topic)
        if held is not None:
            self._pubsub.warning("delivery failed", **_subscription(app, pubsub, topic), problem=problem, **_held(held))

    def message_dropped(self, app: AppRef, pubsub: str, topic: str, problem: str) -> None:
        """A message was done with without having been accepted, as the app or its rules wanted, and is in no dead-letter topic."""
        self.metrics.subscription_problems.child(app.app_id, "dropped").inc()
        held = self._limiter.held_back("message_dropped", app.app_id, app.namespace, pubsub, topic)
        if held is not None:
            self._pubsub.warning("message dropped", **_subscription(app, pubsub, topic), problem=problem, **_held(held))

    # Bindings and configuration --------------------------------------------------------------------------------------
    def bindings_unknown(self, app: AppRef, problem: str) -> None:
        """An app could not be asked which input bindings it wants; it is asked again."""
        self.metrics.binding_problems.child(app.app_id, "unknown").inc()
        held = self._limiter.held_back("bindings_unknown", app.app_id, app.namespace)
        if held is not None:
            self._bindings.warning("input bindings not read", **_app(app), problem=problem, **_held(held))

    def binding_started(self, app: AppRef, binding: str) -> None:
        """Events of an input binding go to an app."""
        self.metrics.binding_changes.child(app.app_id, "started").inc()
        self._bindings.info("input binding started", **_app(app), component=binding)

    def binding_unwanted(self, app: AppRef, binding: str) -> None:
        """The app was asked and does not want an input binding that it could have."""
        self.metrics.binding_changes.child(app.app_id, "unwanted").inc()
        self._bindings.info("input binding not wanted by the app", **_app(app), component=binding)

    def binding_paused(self, app: AppRef, binding: str, reason: str) -> None:
        """Nothing is brought to the app for now."""
        self.metrics.binding_changes.child(app.app_id, "paused").inc()
        self._bindings.info("input binding paused", **_app(app), component=binding, reason=reason)

    def binding_resumed(self, app: AppRef, binding: str) -> None:
        """Events go to the app again."""
        self.metrics.binding_changes.child(app.app_id, "resumed").inc()
        self._bindings.info("input binding resumed", **_app(app), component=binding)

    def binding_stopped(self, app: AppRef, binding: str) -> None:
        """An input binding has ended for an app."""
        self.metrics.binding_changes.child(app.app_id, "stopped").inc()
        self._bindings.info("input binding stopped", **_app(app), component=binding)

    def binding_failed(self, app: AppRef, binding: str, problem: str) -> None:
        """An input binding cannot be read; it is tried again."""
        self.metrics.binding_problems.child(app.app_id, "failed").inc()
        self._bindings.warning("input binding failed", **_app(app), component=binding, problem=problem)

    def binding_event_failed(self, app: AppRef, binding: str, problem: str) -> None:
        """The app did not accept an event; whether it comes again is the component's rule."""
        self.metrics.binding_problems.child(app.app_id, "event").inc()
        held = self._limiter.held_back("binding_event_failed", app.app_id, app.namespace, binding)
        if held is not None:
            self._bindings.warning("event not accepted", **_app(app), component=binding, problem=problem, **_held(held))

    def binding_output_failed(self, app: AppRef, binding: str, target: str, problem: str) -> None:
        """What an app's answer to an event asked for, a binding to call or state to save, was not done."""
        self.metrics.binding_problems.child(app.app_id, "output").inc()
        held = self._limiter.held_back("binding_output_failed", app.app_id, app.namespace, binding, target)
        if held is not None:
            self._bindings.warning(
                "answer to an event not carried out",
                **_app(app), component=binding, target=target, problem=problem, **_held(held),
            )  # fmt: skip

    def configuration_failed(self, app: AppRef, store: str, problem: str) -> None:
        """An app's subscription cannot run at its store; it is tried again."""
        self.metrics.configuration_problems.child(app.app_id, "failed").inc()
        held = self._limiter.held_back("configuration_failed", app.app_id, app.namespace, store)
        if held is not None:
            self._configuration.warning(
                "configuration subscription failed", **_app(app), component=store, problem=problem, **_held(held)
            )

    def configuration_not_delivered(self, app: AppRef, store: str, problem: str) -> None:
        """The app answered that it did not take a change, or it has no path that a change could be sent to."""
        self.metrics.configuration_problems.child(app.app_id, "delivery").inc()
        held = self._limiter.held_back("configuration_not_delivered", app.app_id, app.namespace, store)
        if held is not None:
            self._configuration.warning(
                "configuration change not accepted", **_app(app), component=store, problem=problem, **_held(held)
            )

    def configuration_overflow(self, app: AppRef, store: str, limit: int) -> None:
        """So many keys have changed while the app did not listen that the changes of some were let go."""
        self.metrics.configuration_problems.child(app.app_id, "overflow").inc()
        held = self._limiter.held_back("configuration_overflow", app.app_id, app.namespace, store)
        if held is not None:
            self._configuration.warning(
                "configuration changes let go", **_app(app), component=store, limit=limit, **_held(held)
            )

    def memory_failed(self, file: str, problem: str) -> None:
        """What an app is subscribed to, at brokers or to configuration, could not be read or kept over a restart."""
        self.metrics.subscription_problems.child("", "memory").inc()
        held = self._limiter.held_back("memory_failed", file)
        if held is not None:
            self._pubsub.error("subscriptions not kept", file=file, problem=problem, **_held(held))

    # Components ------------------------------------------------------------------------------------------------------
    def component_opened(self, name: str, kind: str, namespace: str, seconds: float, *, app_id: str = "") -> None:
        """A component is ready. `kind` is its type with the version, such as `state.sqlite/v1`.

        `app_id` names the app it is opened for; empty where all share it.
        """
        self.metrics.components_loaded.child(app_id).inc()
        self.metrics.components_opened.child(app_id, kind).inc()
        self.metrics.components_open.child().inc()
        fields = _component(name, kind, namespace, app_id)
        self._components.info("component opened", **fields, seconds=round(seconds, 3))

    def component_failed(
        self,
        name: str,
        kind: str,
        namespace: str,
        reason: Literal["creation", "init"],
        problem: str,
        *,
        app_id: str = "",
        ignored: bool = False,
    ) -> None:
        """A component could not be made or opened; `ignored`: its resource says to go on without it."""
        self.metrics.components_failed.child(app_id, kind, reason, name).inc()
        fields = _component(name, kind, namespace, app_id)
        log = self._components.warning if ignored else self._components.error
        log("component failed", **fields, reason=reason, problem=problem, ignored=ignored)

    def component_warning(self, name: str, kind: str, namespace: str, problem: str) -> None:
        """A component is opened although something about its resource is probably not meant."""
        self.metrics.component_warnings.child(name).inc()
        self._components.warning("component warning", **_component(name, kind, namespace, ""), problem=problem)

    def component_closed(self, name: str, kind: str, namespace: str, *, app_id: str = "") -> None:
        """A component that was open is closed."""
        self.metrics.components_open.child().dec()
        self._components.info("component closed", **_component(name, kind, namespace, app_id))

    def component_write_failed(self, component: str, operation: str, problem: str) -> None:
        """A component could not write what it had accepted, or was asked to write in the background."""
        self.metrics.component_write_failures.child(component).inc()
        held = self._limiter.held_back("component_write_failed", component, operation)
        if held is not None:
            self._components.error(
                "component write failed", component=component, operation=operation, problem=problem, **_held(held)
            )

    # Resources -------------------------------------------------------------------------------------------------------
    def reload_done(self, seconds: float, *, added: int, changed: int, removed: int) -> None:
        """The resources were read again and are in force."""
        self.metrics.reloads.child("done").inc()
        self._resources.info(
            "resources reloaded", added=added, changed=changed, removed=removed, seconds=round(seconds, 3)
        )

    def reload_failed(self, problem: str) -> None:
        """The resources were read again and are wrong: the former ones stay in force."""
        self.metrics.reloads.child("failed").inc()
        self._resources.error("reload failed, what failed stays as it was", problem=problem)

    def resource_refused(self, kind: str, origin: str, problem: str) -> None:
        """One resource is wrong and left out; `origin` is its file and document."""
        self.metrics.resource_problems.child(kind).inc()
        self._resources.error("resource refused", kind=kind, origin=origin, problem=problem)

    def resource_mended(self, kind: str, origin: str) -> None:
        """A resource that was refused is in force, or gone."""
        self.metrics.resources_mended.child(kind).inc()
        self._resources.info("resource no longer refused", kind=kind, origin=origin)

    # The cluster -----------------------------------------------------------------------------------------------------
    def configuration_awaited(self, problem: str) -> None:
        """The start waits for the API server to give the Configuration of `--config`; told when the problem changes."""
        self.metrics.cluster_reachable.child().set(0)
        self._runtime.warning("waiting for the Configuration", problem=problem)

    def cluster_awaited(self, problem: str) -> None:
        """The start waits for the API server; told when the problem changes."""
        self.metrics.cluster_reachable.child().set(0)
        self._runtime.warning("waiting for the resources of the cluster", problem=problem)

    def cluster_away(self, problem: str) -> None:
        """The API server does not answer: what is known is served."""
        self.metrics.cluster_reachable.child().set(0)
        self._resources.warning("the API server does not answer, what is known is served", problem=problem)

    def cluster_back(self, server: str) -> None:
        """The API server answers again."""
        self.metrics.cluster_reachable.child().set(1)
        self._resources.info("the API server answers", server=server)

    def cluster_refused(self, resource: str, namespace: str, problem: str, *, known: bool) -> None:
        """A kind may not be read, or not any further (`known`); the problem says what a role lacks. Told once."""
        self.metrics.cluster_kinds.child(resource, "refused").inc()
        what = "read any further, what is known of it is served" if known else "read, the others are served"
        self._resources.error(
            f"a kind of the cluster cannot be {what}", resource=resource, **_given(namespace=namespace), problem=problem
        )

    def cluster_kind_absent(self, resource: str) -> None:
        """A kind is not installed in the cluster."""
        self.metrics.cluster_kinds.child(resource, "absent").inc()
        self._resources.warning("a kind is not installed in the cluster: there are none of these", resource=resource)

    def cluster_followed(self, resource: str, namespace: str) -> None:
        """A kind that could not be read is read now."""
        self.metrics.cluster_kinds.child(resource, "followed").inc()
        self._resources.info(
            "a kind of the cluster can be read again", resource=resource, **_given(namespace=namespace)
        )

    def status_holder(self, *, held: bool) -> None:
        """Of the instances that serve the same namespaces this one begins or ends to write the status of Apps."""
        self.metrics.status_holder.child().set(int(held))
        what = "this instance writes the status of apps" if held else "another instance writes the status of apps"
        self._resources.info(what)

    def status_of_holder_alone(self, problem: str) -> None:
        """The status of Apps says what this instance knows: it may not see what the others know."""
        self.metrics.cluster_kinds.child("leases.coordination.k8s.io", "refused").inc()
        self._resources.warning("the status of apps says what this instance knows alone", problem=problem)

    def status_part_cut(self, more: int, apps: int) -> None:
        """So many of its apps have no room in what this instance tells to the one that writes the status."""
        self.metrics.status_left_out.child().set(more)
        if more and self._first("status_part_cut", ""):
            note = f"{apps - more} apps and {more} more"
            self._resources.warning("the status has no room for what this instance knows of all apps", told=note)

    def cluster_write_failed(self, what: str, problem: str) -> None:
        """A `status`, `part` of it, `event` or `lease` could not be written; apps are served all the same."""
        self.metrics.cluster_write_failures.child(what).inc()
        self.metrics.cluster_write_failing.child(what).set(1)
        held = self._limiter.held_back("cluster_write_failed", what, problem)
        if held is not None:
            self._resources.warning("not written to the cluster", object=what, problem=problem, **_held(held))

    def cluster_written(self, what: str) -> None:
        """What could not be written for a while can be."""
        self.metrics.cluster_write_failing.child(what).set(0)
        self._resources.info("written to the cluster again", object=what)

    def resource_notice(self, notice: str) -> None:
        """Something in the resources was ignored, as Dapr ignores it too. Told once for each place."""
        self.metrics.resource_notices.child().inc()
        if self._first("notice", notice):
            self._resources.warning("resource notice", notice=notice)

    def kind_without_effect(self, kind: str, origin: str = "") -> None:
        """A resource of a kind that this version takes but does not act on. Told once for each kind."""
        self.metrics.without_effect.child(kind).inc()
        if self._first("kind", kind):
            self._resources.warning("resource kind without effect", kind=kind, **_given(origin=origin))

    # Refusals and failures -------------------------------------------------------------------------------------------
    def identity_refused(self, reason: str, protocol: str, operation: str, peer: str) -> None:
        """A request proved no app, or its evidence disagreed: the audit event. Every one is counted.

        `operation` is the endpoint's or method's name, `peer` the sender's address. The token has no parameter here.
        """
        self.metrics.identity_refused.child(reason).inc()
        held = self._limiter.held_back("identity_refused", reason, protocol)
        if held is not None:
            self._identity.warning(
                "identity refused", reason=reason, protocol=protocol, operation=operation, peer=peer, **_held(held)
            )

    def service_account_disputed(self, account: str, apps: Iterable[AppRef]) -> None:
        """Several apps have begun to claim one service account of the cluster, or others than before do."""
        self.metrics.identity_conflicts.child("service_account").inc()
        names = " ".join(str(app) for app in apps)
        self._identity.warning("service account of several apps", service_account=account, apps=names)

    def token_review_failed(self, problem: str) -> None:
        """Nobody could say whether a service account token is good: the API server is away, or refuses us."""
        self.metrics.token_reviews.child("unavailable").inc()
        held = self._limiter.held_back("token_review_failed", problem)
        if held is not None:
            self._identity.warning("service account token not verified", **_given(problem=problem), **_held(held))

    def access_refused(self, app: AppRef, reason: str, operation: str, target: str) -> None:
        """A proved caller may not do this: the audit event. Every one is counted."""
        self.metrics.access_refused.child(app.app_id, reason).inc()
        held = self._limiter.held_back("access_refused", app.app_id, app.namespace, reason)
        if held is not None:
            self._identity.warning(
                "access refused", app_id=app.app_id, namespace=app.namespace, reason=reason, operation=operation,
                target=target, **_held(held),
            )  # fmt: skip

    def operator_acted(self, app: AppRef, action: str, target: str) -> None:
        """The operator called the API as an app, through the operators' socket: the audit event. Never held back."""
        self.metrics.operator_actions.child(app.app_id, action).inc()
        self._identity.warning(
            "operator acts as app", app_id=app.app_id, namespace=app.namespace, action=action, target=target
        )

    def invocation_failed(self, app: AppRef, target: str, reason: str, problem: str = "") -> None:
        """An invocation by `app` did not reach `target`, or got no answer."""
        self.metrics.invocations_failed.child(app.app_id, reason).inc()
        held = self._limiter.held_back("invocation_failed", app.app_id, app.namespace, target, reason)
        if held is not None:
            self._invoke.warning(
                "invocation failed", app_id=app.app_id, namespace=app.namespace, target=target, reason=reason,
                **_given(problem=problem), **_held(held),
            )  # fmt: skip

    def peer_call_refused(self, app: str, reason: str, caller: str, problem: str) -> None:
        """A call of another instance was refused. `caller` is who it says it is from: nothing proves it."""
        self.metrics.peer_calls_refused.child(reason).inc()
        held = self._limiter.held_back("peer_call_refused", app, reason)
        if held is not None:
            self._invoke.warning(
                "call from another instance refused", app_id=app, reason=reason, claimed_caller=caller, problem=problem,
                **_held(held),
            )  # fmt: skip

    def name_resolution_missing(self, problem: str) -> None:
        """The Configuration asks for a name resolver that cannot be: apps of other instances are not found."""
        self.metrics.without_effect.child("nameResolution").inc()
        self._runtime.warning("no name resolution", problem=problem)

    def _first(self, what: str, name: str) -> bool:
        key = (what, name)
        if key in self._told or len(self._told) >= _MOST_KEYS:
            return False
        self._told.add(key)
        return True


def _held(count: int) -> Mapping[str, int]:
    """How many like it were not written since the last line."""
    return {"held_back": count} if count else {}


def _given(**fields: str) -> Mapping[str, str]:
    return {name: value for name, value in fields.items() if value}


def _app(app: AppRef) -> Mapping[str, str]:
    return {"app_id": app.app_id, "namespace": app.namespace}


def _subscription(app: AppRef, pubsub: str, topic: str) -> Mapping[str, str]:
    return {"app_id": app.app_id, "namespace": app.namespace, "pubsub": pubsub, "topic": topic}


def _component(name: str, kind: str, namespace: str, app_id: str) -> Mapping[str, str]:
    return {"component": name, "component_type": kind, "namespace": namespace, **_given(app_id=app_id)}
