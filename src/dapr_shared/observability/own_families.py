"""The families of this product's own metrics, `dapr_shared_…`.

Beside both roads. Named events (`events.py`) count in them, each in one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dapr_shared.observability.metrics import Registry

_OWN = "dapr_shared_"


class OwnFamilies:
    """Makes them in a registry, by what they are about."""

    registry: Registry

    def _add_own(self, version: str) -> None:
        self.registry.gauge(_OWN + "build_info", "Always 1; the label tells the version.", ["version"]).child(
            version
        ).set(1)
        self._add_own_instance()
        self._add_own_apps()
        self._add_own_resources()
        self._add_own_cluster()
        self._add_own_callers()
        self._add_own_deliveries()

    def _add_own_instance(self) -> None:
        counter, gauge = self.registry.counter, self.registry.gauge
        self.ready = gauge(_OWN + "ready", "1 while the instance is ready to serve, else 0.")
        self.connections = gauge(
            _OWN + "listener_connections", "Connections that are open on a listener.", ["listener", "protocol"]
        )
        self.listener_failures = counter(_OWN + "listener_failures_total", "Addresses that could not be bound.")
        self.tls_loads = counter(_OWN + "tls_load_total", "Loads of the TLS files, by result.", ["result"])
        self.tls_troubles = counter(
            _OWN + "tls_trouble_total", "Connections that came to nothing over TLS.", ["listener", "reason"]
        )
        self.spans = counter(_OWN + "span_total", "Sampled spans written to the log.", ["target"])
        self.spans_dropped = counter(
            _OWN + "span_dropped_total", "Sampled spans that were not exported.", ["target", "reason"]
        )
        self.drains = counter(_OWN + "drain_total", "Drains that ended, by result.", ["result"])
        self.without_effect = counter(
            _OWN + "without_effect_total", "Settings and resource kinds given that have no effect.", ["name"]
        )
        self.defects = counter(_OWN + "defects_total", "Errors that nothing expected: defects.", ["where"])
        self.log_lines_dropped = counter(_OWN + "log_lines_dropped_total", "Log lines that found the queue full.")

    def _add_own_apps(self) -> None:
        counter, gauge = self.registry.counter, self.registry.gauge
        self.apps = gauge(_OWN + "apps", "Apps that this instance serves.")
        self.app_healthy = gauge(_OWN + "app_healthy", "1 while an app passes its health checks, else 0.", ["app_id"])
        self.app_reachable = gauge(_OWN + "app_reachable", "1 while an app accepts connections, else 0.", ["app_id"])
        self.in_flight = gauge(_OWN + "calls_in_flight", "Calls of an app that are being worked on.", ["app_id"])
        self.app_changes = counter(
            _OWN + "app_changes_total", "Apps added, changed, removed, or stopped by themselves.", ["change"]
        )
        self.app_processes = counter(
            _OWN + "app_processes_total", "Processes of apps that this run started, by what became of them.", ["change"]
        )

    def _add_own_resources(self) -> None:
        counter, gauge = self.registry.counter, self.registry.gauge
        self.components_open = gauge(_OWN + "components_open", "Components that are open.")
        self.component_warnings = counter(
            _OWN + "component_warnings_total", "Components opened although something looks wrong.", ["component"]
        )
        self.component_write_failures = counter(
            _OWN + "component_write_failures_total", "Writes that a component refused or lost.", ["component"]
        )
        self.reloads = counter(_OWN + "reload_total", "Reloads of the resources, by result.", ["result"])
        self.resource_problems = counter(_OWN + "resource_problems_total", "Resources that were refused.", ["kind"])
        self.resources_mended = counter(
            _OWN + "resource_problems_mended_total", "Resources that are no longer refused.", ["kind"]
        )
        self.resource_notices = counter(_OWN + "resource_notices_total", "Parts of resources that were ignored.")

    def _add_own_cluster(self) -> None:
        counter, gauge = self.registry.counter, self.registry.gauge
        self.cluster_reachable = gauge(_OWN + "cluster_reachable", "1: the Kubernetes API server answers.")
        self.cluster_kinds = counter(
            _OWN + "cluster_kinds_total",
            "How often reading a kind of the cluster became refused (RBAC), absent, or followed.",
            ["resource", "state"],
        )
        self.status_holder = gauge(_OWN + "status_holder", "1 while this instance writes the status of Apps, else 0.")
        self.status_left_out = gauge(
            _OWN + "status_left_out",
            "Apps of which this instance has more to tell than its part of the status has room.",
        )
        self.cluster_write_failures = counter(
            _OWN + "cluster_write_failures_total",
            "Writes to the Kubernetes API server that failed: status, part, event, lease.",
            ["object"],
        )
        self.cluster_write_failing = gauge(
            _OWN + "cluster_write_failing",
            "1 while writing to the Kubernetes API server fails, else 0: status, part, event, lease.",
            ["object"],
        )

    def _add_own_callers(self) -> None:
        counter = self.registry.counter
        self.identity_refused = counter(
            _OWN + "identity_refused_total", "Requests whose caller was not proved, by reason.", ["reason"]
        )
        self.identity_conflicts = counter(
            _OWN + "identity_conflicts_total",
            "Evidence that several apps claim and that proves none, by kind.",
            ["kind"],
        )
        self.token_reviews = counter(
            _OWN + "token_reviews_total",
            "Service account tokens that were not known yet: proved, refused, unavailable (nobody could say), limited.",
            ["outcome"],
        )
        self.access_refused = counter(
            _OWN + "access_refused_total", "Requests of a proved caller that were not allowed.", ["app_id", "reason"]
        )
        self.operator_actions = counter(
            _OWN + "operator_actions_total", "Calls that the operator made as an app.", ["app_id", "action"]
        )
        self.invocations_failed = counter(
            _OWN + "invocation_failures_total", "Invocations that did not reach their app.", ["app_id", "reason"]
        )
        self.peer_calls_refused = counter(
            _OWN + "peer_calls_refused_total", "Calls of other instances that were not allowed or are for no app of this one.",
            ["reason"],
        )  # fmt: skip

    def _add_own_deliveries(self) -> None:
        counter, gauge = self.registry.counter, self.registry.gauge
        self.subscriptions = gauge(
            _OWN + "subscriptions", "Subscriptions of an app that are active, paused or failed.", ["app_id", "state"]
        )
        self.subscription_changes = counter(
            _OWN + "subscription_changes_total",
            "Subscriptions that were started, paused, resumed or stopped.",
            ["app_id", "change"],
        )
        self.subscription_problems = counter(
            _OWN + "subscription_problems_total",
            "What went wrong with an app's subscriptions: not read, failed, delivery not accepted, not kept.",
            ["app_id", "problem"],
        )
        self.binding_changes = counter(
            _OWN + "binding_changes_total",
            "Input bindings of an app that were started, paused, resumed or stopped, or were not wanted.",
            ["app_id", "change"],
        )
        self.binding_problems = counter(
            _OWN + "binding_problems_total",
            "What went wrong with an app's input bindings: not asked, failed, event not accepted, output not reached.",
            ["app_id", "problem"],
        )
        self.configuration_problems = counter(
            _OWN + "configuration_problems_total",
            "What went wrong with an app's configuration subscriptions: failed, change not accepted, too many waiting.",
            ["app_id", "problem"],
        )
