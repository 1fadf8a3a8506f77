"""The families of Dapr's metrics, under Dapr's exact names, labels and buckets (reference behaviours §8).

Beside both roads. `DaprMetrics` counts in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dapr_shared.observability.metrics import DEFAULT_LABEL_SET_LIMIT

if TYPE_CHECKING:
    from dapr_shared.observability.metrics import Counter, Family, Gauge, Histogram, Registry

LATENCY_BUCKETS = (
    1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 30, 40, 50, 65, 80, 100, 130, 160, 200, 250, 300, 400, 500, 650, 800, 1000,
    2000, 5000, 10000, 20000, 50000, 100000,
)  # fmt: skip
"""Milliseconds: Dapr's default distribution of latencies."""

SIZE_BUCKETS = (
    1024, 2048, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864, 268435456, 1073741824, 4294967296,
)  # fmt: skip
"""Bytes: Dapr's distribution of sizes."""


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


class DaprFamilies:
    """Makes them in a registry."""

    options: MetricsOptions
    registry: Registry

    def _add_dapr(self) -> None:
        self._add_http()
        self._add_grpc()
        self._add_components()
        self._add_invocations()
        self._add_resiliency()

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

    def _counter(self, name: str, documentation: str, *labels: str) -> Family[Counter]:
        return self.registry.counter(f"dapr_{name}", documentation, ("app_id", *labels))

    def _gauge(self, name: str, documentation: str, *labels: str) -> Family[Gauge]:
        return self.registry.gauge(f"dapr_{name}", documentation, ("app_id", *labels))

    def _latency(self, name: str, documentation: str, *labels: str) -> Family[Histogram]:
        buckets = self.options.latency_buckets
        return self.registry.histogram(f"dapr_{name}", documentation, ("app_id", *labels), buckets=buckets)

    def _size(self, name: str, documentation: str, *labels: str) -> Family[Histogram]:
        return self.registry.histogram(f"dapr_{name}", documentation, ("app_id", *labels), buckets=SIZE_BUCKETS)
