"""Dapr's metrics under Dapr's exact names and labels, and this product's own (`dapr_shared_…`).

Beside both roads: the pipeline, the blocks and the channels count through the small typed methods here. What they
return is kept here by its labels, so that counting a request is one look-up in a dict and a few additions. Names,
labels and buckets: reference behaviours §8. `app_id` is the app that a call belongs to; it is empty, and so absent from
the output, for what belongs to the instance as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from dapr_shared.observability.call_metrics import (
    BulkOperationMetrics,
    CallMetrics,
    InvocationMetrics,
    OperationMetrics,
)
from dapr_shared.observability.metrics import (
    DEFAULT_LABEL_SET_LIMIT,
    OTHER,
    Counter,
    Family,
    Gauge,
    Histogram,
    Registry,
)
from dapr_shared.observability.process_metrics import add_process_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dapr_shared.core.errors import GrpcCode

LATENCY_BUCKETS = (
    1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 30, 40, 50, 65, 80, 100, 130, 160, 200, 250, 300, 400, 500, 650, 800, 1000,
    2000, 5000, 10000, 20000, 50000, 100000,
)  # fmt: skip
"""Milliseconds: Dapr's default distribution of latencies."""

SIZE_BUCKETS = (
    1024, 2048, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864, 268435456, 1073741824, 4294967296,
)  # fmt: skip
"""Bytes: Dapr's distribution of sizes."""

GRPC_STATUS_NAMES = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied",
    "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable",
    "DataLoss", "Unauthenticated",
)  # fmt: skip
"""The values of the gRPC status labels, by code: Go's names, as Dapr writes them."""

BREAKER_STATES = ("closed", "half-open", "open", "unknown")
"""The `status` label of `dapr_resiliency_cb_state`; the one in force is 1, the others 0."""

_VERBS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"})
_INCREASED = 5

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class MetricsOptions:
    """What `spec.metrics` of the Configuration and the flags say about metrics."""

    latency_buckets: tuple[float, ...] = LATENCY_BUCKETS
    """Milliseconds, ascending (`latencyDistributionBuckets`)."""
    increased_cardinality: bool = False
    """Count HTTP responses by path as well, and let each family have five times as many label sets."""
    exclude_verbs: bool = False
    """Leave the HTTP method out of the labels."""
    record_error_codes: bool = False
    """Count the error codes that the APIs answer with."""
    label_set_limit: int = DEFAULT_LABEL_SET_LIMIT
    """Label sets of a family; what comes after that counts under `_other`."""


class DaprMetrics:
    """All metrics of one instance, and its registry."""

    def __init__(self, options: MetricsOptions | None = None, *, version: str = "") -> None:
        self.options = options or MetricsOptions()
        limit = self.options.label_set_limit * (_INCREASED if self.options.increased_cardinality else 1)
        self.registry = Registry(limit=limit)
        self._calls: dict[tuple[str | int, ...], CallMetrics] = {}
        self._operations: dict[tuple[str, ...], OperationMetrics] = {}
        self._bulk_operations: dict[tuple[str, ...], BulkOperationMetrics] = {}
        self._invocations: dict[tuple[str, ...], InvocationMetrics] = {}
        self._add_http()
        self._add_grpc()
        self._add_components()
        self._add_invocations()
        self._add_resiliency()
        self._add_own(version)
        add_process_metrics(self.registry)

    # The request road ------------------------------------------------------------------------------------------------
    def http_request(self, app_id: str, method: str, path: str, status: int) -> CallMetrics:
        """A request to the HTTP API. `path` is the endpoint's name, such as `GetState` or `InvokeService/<app>`.

        Name only apps that exist in it: a caller can make up any number of others.
        """
        key = ("http-server", app_id, method, path, status)
        return self._calls.get(key) or self._keep(
            self._calls, key, self._http_server(app_id, method, path, str(status))
        )

    def http_call(self, app_id: str, method: str, path: str, status: int) -> CallMetrics:
        """A request to an HTTP app; `app_id` is that app, `path` a name as of `http_request`; `method` may be empty."""
        key = ("http-client", app_id, method, path, status)
        return self._calls.get(key) or self._keep(
            self._calls, key, self._http_client(app_id, method, path, str(status))
        )

    def grpc_request(self, app_id: str, method: str, code: GrpcCode) -> CallMetrics:
        """A call of the gRPC API; `method` is the full name, `/package.Service/Method`."""
        key = ("grpc-server", app_id, method, GRPC_STATUS_NAMES[code])
        return self._calls.get(key) or self._keep(self._calls, key, self._grpc(self._grpc_server, *key[1:]))

    def grpc_call(self, app_id: str, method: str, code: GrpcCode) -> CallMetrics:
        """A call of a gRPC app; `app_id` is that app."""
        key = ("grpc-client", app_id, method, GRPC_STATUS_NAMES[code])
        return self._calls.get(key) or self._keep(self._calls, key, self._grpc(self._grpc_client, *key[1:]))

    def http_health_probe(self, app_id: str, status: int) -> OperationMetrics:
        """A health probe of an HTTP app."""
        return self._operation("http-probe", self._http_probes, app_id, str(status))

    def grpc_health_probe(self, app_id: str, code: GrpcCode) -> OperationMetrics:
        """A health probe of a gRPC app."""
        return self._operation("grpc-probe", self._grpc_probes, app_id, GRPC_STATUS_NAMES[code])

    def state_operation(
        self, app_id: str, component: str, namespace: str, operation: str, *, success: bool
    ) -> OperationMetrics:
        """An operation on a state store: get, set, delete, bulk_get, bulk_delete, transaction, query."""
        succeeded = "true" if success else "false"
        # Found without a further call where it is known, as for messages.
        found = self._operations.get(("state", app_id, component, namespace, operation, succeeded))
        if found is not None:
            return found
        return self._operation("state", self._state, app_id, component, namespace, operation, succeeded)

    def pubsub_ingress(
        self, app_id: str, component: str, namespace: str, topic: str, process_status: str
    ) -> OperationMetrics:
        """A message brought to an app; `process_status` is `success`, `retry` or `drop`."""
        # Found without a further call where it is known, which it is for every message but the first.
        found = self._operations.get(("ingress", app_id, component, namespace, process_status, topic, ""))
        if found is not None:
            return found
        return self._operation("ingress", self._ingress, app_id, component, namespace, process_status, topic, "")

    def secret_operation(
        self, app_id: str, component: str, namespace: str, operation: str, *, success: bool
    ) -> OperationMetrics:
        """An operation on a secret store: get, bulk_get."""
        return self._operation("secret", self._secret, app_id, component, namespace, operation, _bool(success))

    def configuration_operation(
        self, app_id: str, component: str, namespace: str, operation: str, *, success: bool
    ) -> OperationMetrics:
        """An operation on a configuration store: get, subscribe, unsubscribe."""
        return self._operation(
            "configuration", self._configuration, app_id, component, namespace, operation, _bool(success)
        )

    def output_binding(
        self, app_id: str, component: str, namespace: str, operation: str, *, success: bool
    ) -> OperationMetrics:
        """A call of an output binding; `operation` is one that the binding has."""
        return self._operation("output", self._output, app_id, component, namespace, operation, _bool(success))

    def input_binding(self, app_id: str, component: str, namespace: str, *, success: bool) -> OperationMetrics:
        """An event of an input binding that was brought to an app."""
        return self._operation("input", self._input, app_id, component, namespace, _bool(success))

    def publish(self, app_id: str, component: str, namespace: str, topic: str, *, success: bool) -> OperationMetrics:
        """A message given to a broker."""
        word = "true" if success else "false"
        found = self._operations.get(("publish", app_id, component, namespace, word, topic))
        return found or self._operation("publish", self._publish, app_id, component, namespace, word, topic)

    def bulk_publish(
        self, app_id: str, component: str, namespace: str, topic: str, *, success: bool
    ) -> BulkOperationMetrics:
        """A bulk publish; it is no success when one message failed."""
        labels = (app_id, component, namespace, _bool(success), topic)
        key = ("bulk-publish", *labels)
        found = self._bulk_operations.get(key)
        if found is not None:
            return found
        count, events, latency = self._bulk_publish
        made = BulkOperationMetrics(count.child(*labels), events.child(*labels), latency.child(*labels))
        return self._keep(self._bulk_operations, key, made)

    def invocation(
        self, source: str, target: str, status: int, kind: Literal["unary", "streaming"] = "unary"
    ) -> InvocationMetrics:
        """A service invocation between two apps of this instance; `status` is the number of HTTP or gRPC."""
        key = (source, target, str(status), kind)
        found = self._invocations.get(key)
        if found is not None:
            return found
        counters = (
            self._invoke_sent.child(source, target, kind),
            self._invoke_received.child(target, source),
            self._invoke_answered.child(target, source, key[2]),
            self._invoke_answers.child(source, target, key[2], kind),
        )
        latency = self._invoke_latency.child(source, target, key[2])
        return self._keep(self._invocations, key, InvocationMetrics(counters, latency))

    def invocation_sent(
        self, source: str, target: str, status: int, kind: Literal["unary", "streaming"] = "unary"
    ) -> InvocationMetrics:
        """A service invocation of an app that another instance serves: what the caller's side counts."""
        key = (source, target, str(status), kind)
        counters = (
            self._invoke_sent.child(source, target, kind),
            self._invoke_answers.child(source, target, key[2], kind),
        )
        return InvocationMetrics(counters, self._invoke_latency.child(source, target, key[2]))

    def invocation_received(self, source: str, target: str, status: int) -> None:
        """Count a service invocation by an app that another instance serves, once it is answered: the callee's side."""
        self._invoke_received.child(target, source).inc()
        self._invoke_answered.child(target, source, str(status)).inc()

    def read_calls_in_flight(self, read: Callable[[], Mapping[str, int]]) -> None:
        """Have the calls in flight of each app read at every scrape; an app without any keeps a 0."""
        seen: set[str] = set()

        def scrape() -> None:
            now = read()
            for app_id in seen | set(now):
                self.in_flight.child(app_id).set(now.get(app_id, 0))
            seen.clear()
            seen.update(now)

        self.registry.on_scrape(scrape)

    def read_subscriptions(self, read: Callable[[], Mapping[str, Mapping[str, int]]]) -> None:
        """Have the subscriptions of each app, by state, read at every scrape; an app that is gone has no sample."""
        seen: set[str] = set()

        def scrape() -> None:
            now = read()
            for app_id in seen - set(now):
                self.subscriptions.forget("app_id", app_id)
            for app_id, states in now.items():
                for state, number in states.items():
                    self.subscriptions.child(app_id, state).set(number)
            seen.clear()
            seen.update(now)

        self.registry.on_scrape(scrape)

    def calls_in_flight(self, app_id: str) -> Gauge:
        """The calls of an app that are being worked on; keep the gauge with the app."""
        return self.in_flight.child(app_id)

    def error_code(self, app_id: str, code: str, category: str = "") -> None:
        """An error that an API answered with; counted only if `record_error_codes` is on."""
        if self.options.record_error_codes:
            self.error_codes.child(app_id, code, category).inc()

    # Resiliency ------------------------------------------------------------------------------------------------------
    def policy_executed(
        self, app_id: str, name: str, policy: str, namespace: str, direction: str, target: str, status: str = ""
    ) -> None:
        """A policy (`timeout`, `retry`, `circuitbreaker`) was applied to a call."""
        self.policy_executions.child(app_id, name, policy, namespace, direction, target, status).inc()

    def policy_activated(
        self, app_id: str, name: str, policy: str, namespace: str, direction: str, target: str, status: str = ""
    ) -> None:
        """A policy had to act: a time-out, a retry, a breaker that changed its state."""
        self.policy_activations.child(app_id, name, policy, namespace, direction, target, status).inc()

    def breaker_state(self, app_id: str, name: str, namespace: str, direction: str, target: str, state: str) -> None:
        """The state of a circuit breaker, one of `BREAKER_STATES`."""
        for known in BREAKER_STATES:
            gauge = self.breaker_states.child(app_id, name, "circuitbreaker", namespace, direction, target, known)
            gauge.set(int(known == state))

    # Life ------------------------------------------------------------------------------------------------------------
    def forget_app(self, app_id: str) -> None:
        """Drop what was counted for an app that is gone, so that new apps find room below the limit.

        Children that others kept for it count into nothing from now on: look them up again if the app comes back.
        """
        for label in ("app_id", "src_app_id", "dst_app_id"):
            self.registry.forget(label, app_id)
        self._calls.clear()
        self._operations.clear()
        self._bulk_operations.clear()
        self._invocations.clear()

    def read_dropped_log_lines(self, read: Callable[[], int]) -> None:
        """Have the number of dropped log lines read at every scrape."""
        self.registry.on_scrape(lambda: setattr(self.log_lines_dropped.child(), "value", read()))

    # The families ----------------------------------------------------------------------------------------------------
    def _add_http(self) -> None:
        request = ("method", "path", "status")
        self._http_requests = self._counter("http_server_request_count", "HTTP requests to the API.", *request)
        self._http_responses = self._counter("http_server_response_count", "HTTP responses of the API.", *request)
        self._http_latency = self._latency("http_server_latency", "Time of HTTP requests to the API, in ms.", *request)
        self._http_received = self._size("http_server_request_bytes", "Size of HTTP request bodies.")
        self._http_sent = self._size("http_server_response_bytes", "Size of HTTP response bodies.")
        self._client_calls = self._counter("http_client_completed_count", "HTTP requests to apps.", *request)
        self._client_latency = self._latency(
            "http_client_roundtrip_latency", "Time of HTTP requests to apps, in ms.", *request
        )
        self._client_sent = self._size("http_client_sent_bytes", "Size of request bodies sent to apps.", *request)
        self._client_received = self._size("http_client_received_bytes", "Size of response bodies of apps.")
        self._http_probes = (
            self._counter("http_healthprobes_completed_count", "Health probes of HTTP apps.", "status"),
            self._latency(
                "http_healthprobes_roundtrip_latency", "Time of health probes of HTTP apps, in ms.", "status"
            ),
        )

    def _add_grpc(self) -> None:
        server = ("grpc_server_method", "grpc_server_status")
        self._grpc_server = (
            self._counter("grpc_io_server_completed_rpcs", "Calls of the gRPC API.", *server),
            self._latency("grpc_io_server_server_latency", "Time of calls of the gRPC API, in ms.", *server),
            self._size("grpc_io_server_received_bytes_per_rpc", "Bytes received in a call of the gRPC API.", server[0]),
            self._size("grpc_io_server_sent_bytes_per_rpc", "Bytes sent in a call of the gRPC API.", server[0]),
        )
        client = ("grpc_client_method", "grpc_client_status")
        self._grpc_client = (
            self._counter("grpc_io_client_completed_rpcs", "gRPC calls of apps.", *client),
            self._latency("grpc_io_client_roundtrip_latency", "Time of gRPC calls of apps, in ms.", *client),
            self._size("grpc_io_client_received_bytes_per_rpc", "Bytes received in a gRPC call of an app.", client[0]),
            self._size("grpc_io_client_sent_bytes_per_rpc", "Bytes sent in a gRPC call of an app.", client[0]),
        )
        self._grpc_probes = (
            self._counter("grpc_io_healthprobes_completed_count", "Health probes of gRPC apps.", client[1]),
            self._latency(
                "grpc_io_healthprobes_roundtrip_latency", "Time of health probes of gRPC apps, in ms.", client[1]
            ),
        )

    def _add_components(self) -> None:
        operation = ("component", "namespace", "operation", "success")
        self._state = (
            self._counter("component_state_count", "Operations on state stores.", *operation),
            self._latency("component_state_latencies", "Time of operations on state stores, in ms.", *operation),
        )
        self._secret = (
            self._counter("component_secret_count", "Operations on secret stores.", *operation),
            self._latency("component_secret_latencies", "Time of operations on secret stores, in ms.", *operation),
        )
        self._configuration = (
            self._counter("component_configuration_count", "Operations on configuration stores.", *operation),
            self._latency(
                "component_configuration_latencies", "Time of operations on configuration stores, in ms.", *operation
            ),
        )
        self._output = (
            self._counter("component_output_binding_count", "Calls of output bindings.", *operation),
            self._latency("component_output_binding_latencies", "Time of calls of output bindings, in ms.", *operation),
        )
        given = ("component", "namespace", "success")
        self._input = (
            self._counter("component_input_binding_count", "Events of input bindings brought to apps.", *given),
            self._latency("component_input_binding_latencies", "Time of bringing an event to an app, in ms.", *given),
        )
        ingress = ("component", "namespace", "process_status", "topic", "status")
        self._ingress = (
            self._counter("component_pubsub_ingress_count", "Messages brought to apps.", *ingress),
            self._latency(
                "component_pubsub_ingress_latencies", "Time of bringing a message to an app, in ms.", *ingress
            ),
        )
        egress = ("component", "namespace", "success", "topic")
        name = "component_pubsub_egress_"
        self._publish = (
            self._counter(name + "count", "Messages given to brokers.", *egress),
            self._latency(name + "latencies", "Time of giving a message to a broker, in ms.", *egress),
        )
        self._bulk_publish = (
            self._counter(name + "bulk_count", "Bulk publishes.", *egress),
            self._counter(name + "bulk_event_count", "Messages given to brokers by bulk publishes.", *egress),
            self._latency(name + "bulk_latencies", "Time of bulk publishes, in ms.", *egress),
        )
        self.components_loaded = self._counter("runtime_component_loaded", "Components that were read.")
        self.components_opened = self._counter(
            "runtime_component_init_total", "Components that were opened.", "component"
        )
        self.components_failed = self._counter(
            "runtime_component_init_fail_total", "Components that could not be opened.",
            "component", "reason", "componentName",
        )  # fmt: skip
        self.error_codes = self._counter(
            "error_code_total", "Errors that the APIs answered with, by code.", "error_code", "category"
        )

    def _add_invocations(self) -> None:
        name = "runtime_service_invocation_"
        self._invoke_sent = self._counter(name + "req_sent_total", "Invocations sent.", "dst_app_id", "type")
        self._invoke_received = self._counter(name + "req_recv_total", "Invocations received.", "src_app_id")
        self._invoke_answered = self._counter(name + "res_sent_total", "Answers sent.", "dst_app_id", "status")
        self._invoke_answers = self._counter(
            name + "res_recv_total", "Answers received.", "src_app_id", "status", "type"
        )
        self._invoke_latency = self._latency(
            name + "res_recv_latency_ms", "Time from an invocation to its answer, in ms.", "src_app_id", "status"
        )

    def _add_resiliency(self) -> None:
        labels = ("name", "policy", "namespace", "flow_direction", "target", "status")
        self.policies_loaded = self._counter("resiliency_loaded", "Resiliency policies loaded.", "name", "namespace")
        self.policy_executions = self._counter("resiliency_count", "Policies applied to calls.", *labels)
        self.policy_activations = self._counter(
            "resiliency_activations_total", "Policies that acted: time-outs, retries, breaker changes.", *labels
        )
        self.breaker_states = self._gauge("resiliency_cb_state", "1 for the state a breaker is in, else 0.", *labels)

    def _add_own(self, version: str) -> None:
        counter, gauge = self.registry.counter, self.registry.gauge
        own = "dapr_shared_"
        gauge(own + "build_info", "Always 1; the label tells the version.", ["version"]).child(version).set(1)
        self.ready = gauge(own + "ready", "1 while the instance is ready to serve, else 0.")
        self.apps = gauge(own + "apps", "Apps that this instance serves.")
        self.app_healthy = gauge(own + "app_healthy", "1 while an app passes its health checks, else 0.", ["app_id"])
        self.app_reachable = gauge(own + "app_reachable", "1 while an app accepts connections, else 0.", ["app_id"])
        self.components_open = gauge(own + "components_open", "Components that are open.")
        self.in_flight = gauge(own + "calls_in_flight", "Calls of an app that are being worked on.", ["app_id"])
        self.connections = gauge(
            own + "listener_connections", "Connections that are open on a listener.", ["listener", "protocol"]
        )
        self.app_changes = counter(
            own + "app_changes_total", "Apps added, changed, removed, or stopped by themselves.", ["change"]
        )
        self.reloads = counter(own + "reload_total", "Reloads of the resources, by result.", ["result"])
        self.resource_problems = counter(own + "resource_problems_total", "Resources that were refused.", ["kind"])
        self.resources_mended = counter(
            own + "resource_problems_mended_total", "Resources that are no longer refused.", ["kind"]
        )
        self.cluster_reachable = gauge(own + "cluster_reachable", "1: the Kubernetes API server answers.")
        self.cluster_kinds = counter(
            own + "cluster_kinds_total",
            "How often reading a kind of the cluster became refused (RBAC), absent, or followed.",
            ["resource", "state"],
        )
        self.status_holder = gauge(own + "status_holder", "1 while this instance writes the status of Apps, else 0.")
        self.status_left_out = gauge(
            own + "status_left_out",
            "Apps of which this instance has more to tell than its part of the status has room.",
        )
        self.cluster_write_failures = counter(
            own + "cluster_write_failures_total",
            "Writes to the Kubernetes API server that failed: status, part, event, lease.",
            ["object"],
        )
        self.cluster_write_failing = gauge(
            own + "cluster_write_failing",
            "1 while writing to the Kubernetes API server fails, else 0: status, event, lease.",
            ["object"],
        )
        self.resource_notices = counter(own + "resource_notices_total", "Parts of resources that were ignored.")
        self.component_warnings = counter(
            own + "component_warnings_total", "Components opened although something looks wrong.", ["component"]
        )
        self.tls_loads = counter(own + "tls_load_total", "Loads of the TLS files, by result.", ["result"])
        self.tls_troubles = counter(
            own + "tls_trouble_total", "Connections that came to nothing over TLS.", ["listener", "reason"]
        )
        self.spans = counter(own + "span_total", "Sampled spans written to the log.", ["target"])
        self.spans_dropped = counter(
            own + "span_dropped_total", "Sampled spans that were not exported.", ["target", "reason"]
        )
        self.listener_failures = counter(own + "listener_failures_total", "Addresses that could not be bound.")
        self.app_processes = counter(
            own + "app_processes_total", "Processes of apps that this run started, by what became of them.", ["change"]
        )
        self.identity_refused = counter(
            own + "identity_refused_total", "Requests whose caller was not proved, by reason.", ["reason"]
        )
        self.identity_conflicts = counter(
            own + "identity_conflicts_total",
            "Evidence that several apps claim and that proves none, by kind.",
            ["kind"],
        )
        self.token_reviews = counter(
            own + "token_reviews_total",
            "Service account tokens that were not known yet: proved, refused, unavailable (nobody could say), limited.",
            ["outcome"],
        )
        self.access_refused = counter(
            own + "access_refused_total", "Requests of a proved caller that were not allowed.", ["app_id", "reason"]
        )
        self.operator_actions = counter(
            own + "operator_actions_total", "Calls that the operator made as an app.", ["app_id", "action"]
        )
        self.invocations_failed = counter(
            own + "invocation_failures_total", "Invocations that did not reach their app.", ["app_id", "reason"]
        )
        self.peer_calls_refused = counter(
            own + "peer_calls_refused_total", "Calls of other instances that were not allowed or are for no app of this one.",
            ["reason"],
        )  # fmt: skip
        self.component_write_failures = counter(
            own + "component_write_failures_total", "Writes that a component refused or lost.", ["component"]
        )
        self.subscriptions = gauge(
            own + "subscriptions", "Subscriptions of an app that are active, paused or failed.", ["app_id", "state"]
        )
        self.subscription_changes = counter(
            own + "subscription_changes_total",
            "Subscriptions that were started, paused, resumed or stopped.",
            ["app_id", "change"],
        )
        self.subscription_problems = counter(
            own + "subscription_problems_total",
            "What went wrong with an app's subscriptions: not read, failed, delivery not accepted, not kept.",
            ["app_id", "problem"],
        )
        self.binding_changes = counter(
            own + "binding_changes_total",
            "Input bindings of an app that were started, paused, resumed or stopped, or were not wanted.",
            ["app_id", "change"],
        )
        self.binding_problems = counter(
            own + "binding_problems_total",
            "What went wrong with an app's input bindings: not asked, failed, event not accepted, output not reached.",
            ["app_id", "problem"],
        )
        self.configuration_problems = counter(
            own + "configuration_problems_total",
            "What went wrong with an app's configuration subscriptions: failed, change not accepted, too many waiting.",
            ["app_id", "problem"],
        )
        self.drains = counter(own + "drain_total", "Drains that ended, by result.", ["result"])
        self.without_effect = counter(
            own + "without_effect_total", "Settings and resource kinds given that have no effect.", ["name"]
        )
        self.defects = counter(own + "defects_total", "Errors that nothing expected: defects.", ["where"])
        self.log_lines_dropped = counter(own + "log_lines_dropped_total", "Log lines that found the queue full.")

    def _counter(self, name: str, documentation: str, *labels: str) -> Family[Counter]:
        return self.registry.counter(f"dapr_{name}", documentation, ("app_id", *labels))

    def _gauge(self, name: str, documentation: str, *labels: str) -> Family[Gauge]:
        return self.registry.gauge(f"dapr_{name}", documentation, ("app_id", *labels))

    def _latency(self, name: str, documentation: str, *labels: str) -> Family[Histogram]:
        buckets = self.options.latency_buckets
        return self.registry.histogram(f"dapr_{name}", documentation, ("app_id", *labels), buckets=buckets)

    def _size(self, name: str, documentation: str, *labels: str) -> Family[Histogram]:
        return self.registry.histogram(f"dapr_{name}", documentation, ("app_id", *labels), buckets=SIZE_BUCKETS)

    # Making children -------------------------------------------------------------------------------------------------
    def _keep(self, cache: dict[K, V], key: K, value: V) -> V:
        # A caller can invent methods: what the families do not take in, the cache does not keep either.
        if len(cache) < self.registry.limit:
            cache[key] = value
        return value

    def _verb(self, method: str) -> str:
        if self.options.exclude_verbs or not method:
            return ""
        return method if method in _VERBS else OTHER

    def _http_server(self, app_id: str, method: str, path: str, status: str) -> CallMetrics:
        labels = (app_id, self._verb(method), path, status)
        return CallMetrics(
            self._http_requests.child(*labels),
            self._http_latency.child(*labels),
            self._http_received.child(app_id),
            self._http_sent.child(app_id),
            self._http_responses.child(*labels) if self.options.increased_cardinality else None,
        )

    def _http_client(self, app_id: str, method: str, path: str, status: str) -> CallMetrics:
        labels = (app_id, self._verb(method), path, status)
        return CallMetrics(
            self._client_calls.child(*labels),
            self._client_latency.child(*labels),
            self._client_received.child(app_id),
            self._client_sent.child(*labels),
        )

    def _grpc(
        self,
        families: tuple[Family[Counter], Family[Histogram], Family[Histogram], Family[Histogram]],
        app_id: str,
        method: str,
        status: str,
    ) -> CallMetrics:
        completed, latency, received, sent = families
        return CallMetrics(
            completed.child(app_id, method, status),
            latency.child(app_id, method, status),
            received.child(app_id, method),
            sent.child(app_id, method),
        )

    def _operation(
        self, kind: str, families: tuple[Family[Counter], Family[Histogram]], *labels: str
    ) -> OperationMetrics:
        key = (kind, *labels)
        found = self._operations.get(key)
        if found is not None:
            return found
        count, latency = families
        return self._keep(self._operations, key, OperationMetrics(count.child(*labels), latency.child(*labels)))


def _bool(value: bool) -> str:  # noqa: FBT001 - the value of a label
    return "true" if value else "false"
