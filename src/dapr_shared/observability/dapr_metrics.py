"""Dapr's metrics under Dapr's exact names and labels, and this product's own (`dapr_shared_…`).

Beside both roads: the pipeline, the blocks and the channels count through the small typed methods here. What they
return is kept here by its labels, so that counting a request is one look-up in a dict and a few additions. Names,
labels and buckets: reference behaviours §8. `app_id` is the app that a call belongs to; it is empty, and so absent from
the output, for what belongs to the instance as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

from dapr_shared.observability.call_metrics import (
    BulkOperationMetrics,
    CallMetrics,
    InvocationMetrics,
    OperationMetrics,
)
from dapr_shared.observability.dapr_families import LATENCY_BUCKETS, SIZE_BUCKETS, DaprFamilies, MetricsOptions
from dapr_shared.observability.metrics import (
    OTHER,
    Counter,
    Family,
    Gauge,
    Histogram,
    Registry,
)
from dapr_shared.observability.own_families import OwnFamilies
from dapr_shared.observability.process_metrics import add_process_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dapr_shared.core.errors import GrpcCode

__all__ = ["BREAKER_STATES", "GRPC_STATUS_NAMES", "LATENCY_BUCKETS", "SIZE_BUCKETS", "DaprMetrics", "MetricsOptions"]

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


class DaprMetrics(DaprFamilies, OwnFamilies):
    """All metrics of one instance, and its registry."""

    def __init__(self, options: MetricsOptions | None = None, *, version: str = "") -> None:
        self.options = options or MetricsOptions()
        limit = self.options.label_set_limit * (_INCREASED if self.options.increased_cardinality else 1)
        self.registry = Registry(limit=limit)
        self._calls: dict[tuple[str | int, ...], CallMetrics] = {}
        self._operations: dict[tuple[str, ...], OperationMetrics] = {}
        self._bulk_operations: dict[tuple[str, ...], BulkOperationMetrics] = {}
        self._invocations: dict[tuple[str, ...], InvocationMetrics] = {}
        self._add_dapr()
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
