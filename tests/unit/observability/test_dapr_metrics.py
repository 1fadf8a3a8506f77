"""Dapr's metrics have Dapr's names, labels and buckets, for many apps in one instance."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from dapr_shared.core.errors import GrpcCode
from dapr_shared.observability.dapr_metrics import GRPC_STATUS_NAMES, LATENCY_BUCKETS, DaprMetrics, MetricsOptions


def lines(metrics: DaprMetrics, start: str) -> list[str]:
    """The samples whose names begin so, without the buckets."""
    text = metrics.registry.render().decode()
    return [line for line in text.splitlines() if line.startswith(start) and "_bucket{" not in line]


LABELS = {
    "dapr_http_server_request_count": "app_id method path status",
    "dapr_http_server_response_count": "app_id method path status",
    "dapr_http_server_latency": "app_id method path status",
    "dapr_http_server_request_bytes": "app_id",
    "dapr_http_server_response_bytes": "app_id",
    "dapr_http_client_sent_bytes": "app_id method path status",
    "dapr_http_client_roundtrip_latency": "app_id method path status",
    "dapr_http_client_completed_count": "app_id method path status",
    "dapr_http_client_received_bytes": "app_id",
    "dapr_http_healthprobes_roundtrip_latency": "app_id status",
    "dapr_http_healthprobes_completed_count": "app_id status",
    "dapr_grpc_io_server_received_bytes_per_rpc": "app_id grpc_server_method",
    "dapr_grpc_io_server_sent_bytes_per_rpc": "app_id grpc_server_method",
    "dapr_grpc_io_server_server_latency": "app_id grpc_server_method grpc_server_status",
    "dapr_grpc_io_server_completed_rpcs": "app_id grpc_server_method grpc_server_status",
    "dapr_grpc_io_client_sent_bytes_per_rpc": "app_id grpc_client_method",
    "dapr_grpc_io_client_received_bytes_per_rpc": "app_id grpc_client_method",
    "dapr_grpc_io_client_roundtrip_latency": "app_id grpc_client_method grpc_client_status",
    "dapr_grpc_io_client_completed_rpcs": "app_id grpc_client_method grpc_client_status",
    "dapr_grpc_io_healthprobes_roundtrip_latency": "app_id grpc_client_status",
    "dapr_grpc_io_healthprobes_completed_count": "app_id grpc_client_status",
    "dapr_component_state_count": "app_id component namespace operation success",
    "dapr_component_state_latencies": "app_id component namespace operation success",
    "dapr_component_pubsub_ingress_count": "app_id component namespace process_status topic status",
    "dapr_component_pubsub_ingress_latencies": "app_id component namespace process_status topic status",
    "dapr_component_pubsub_egress_count": "app_id component namespace success topic",
    "dapr_component_pubsub_egress_latencies": "app_id component namespace success topic",
    "dapr_component_pubsub_egress_bulk_count": "app_id component namespace success topic",
    "dapr_component_pubsub_egress_bulk_event_count": "app_id component namespace success topic",
    "dapr_component_pubsub_egress_bulk_latencies": "app_id component namespace success topic",
    "dapr_component_configuration_count": "app_id component namespace operation success",
    "dapr_component_configuration_latencies": "app_id component namespace operation success",
    "dapr_component_output_binding_count": "app_id component namespace operation success",
    "dapr_component_output_binding_latencies": "app_id component namespace operation success",
    "dapr_component_input_binding_count": "app_id component namespace success",
    "dapr_component_input_binding_latencies": "app_id component namespace success",
    "dapr_component_secret_count": "app_id component namespace operation success",
    "dapr_component_secret_latencies": "app_id component namespace operation success",
    "dapr_error_code_total": "app_id error_code category",
    "dapr_resiliency_loaded": "app_id name namespace",
    "dapr_resiliency_count": "app_id name policy namespace flow_direction target status",
    "dapr_resiliency_activations_total": "app_id name policy namespace flow_direction target status",
    "dapr_resiliency_cb_state": "app_id name policy namespace flow_direction target status",
    "dapr_runtime_component_loaded": "app_id",
    "dapr_runtime_component_init_total": "app_id component",
    "dapr_runtime_component_init_fail_total": "app_id component reason componentName",
    "dapr_runtime_service_invocation_req_sent_total": "app_id dst_app_id type",
    "dapr_runtime_service_invocation_req_recv_total": "app_id src_app_id",
    "dapr_runtime_service_invocation_res_sent_total": "app_id dst_app_id status",
    "dapr_runtime_service_invocation_res_recv_total": "app_id src_app_id status type",
    "dapr_runtime_service_invocation_res_recv_latency_ms": "app_id src_app_id status",
}


def test_names_and_labels_are_dapr_s() -> None:
    """Every family that Dapr has and this version has carries Dapr's name and label names."""
    families = {family.name: " ".join(family.labels) for family in DaprMetrics().registry.families()}
    assert {name: labels for name, labels in families.items() if name in LABELS} == LABELS
    assert {name for name in families if name.startswith("dapr_") and not name.startswith("dapr_shared_")} == set(
        LABELS
    )


def test_every_family_says_what_it_is() -> None:
    """Each family has a sentence of help, and our own are named apart from Dapr's."""
    for family in DaprMetrics().registry.families():
        assert family.documentation.endswith("."), family.name
        assert family.name.startswith(("dapr_", "process_")), family.name


def test_http_requests() -> None:
    """A request counts under app, method, endpoint and status; its sizes under the app."""
    metrics = DaprMetrics()
    metrics.http_request("shop", "GET", "GetState", 200).record(2.5, 0, 1500)
    metrics.http_request("shop", "GET", "GetState", 200).record(3, 10, 10)
    metrics.http_request("shop", "BREW", "GetState", 405).record(1, 0, 0)
    assert lines(metrics, "dapr_http_server") == [
        'dapr_http_server_latency_sum{app_id="shop",method="GET",path="GetState",status="200"} 5.5',
        'dapr_http_server_latency_count{app_id="shop",method="GET",path="GetState",status="200"} 2',
        'dapr_http_server_latency_sum{app_id="shop",method="_other",path="GetState",status="405"} 1',
        'dapr_http_server_latency_count{app_id="shop",method="_other",path="GetState",status="405"} 1',
        'dapr_http_server_request_bytes_sum{app_id="shop"} 10',
        'dapr_http_server_request_bytes_count{app_id="shop"} 3',
        'dapr_http_server_request_count{app_id="shop",method="GET",path="GetState",status="200"} 2',
        'dapr_http_server_request_count{app_id="shop",method="_other",path="GetState",status="405"} 1',
        'dapr_http_server_response_bytes_sum{app_id="shop"} 1510',
        'dapr_http_server_response_bytes_count{app_id="shop"} 3',
    ]


def test_latency_buckets() -> None:
    """The buckets are Dapr's unless the Configuration gives others."""
    assert len(LATENCY_BUCKETS) == 34
    metrics = DaprMetrics(MetricsOptions(latency_buckets=(5, 50)))
    metrics.grpc_request("shop", "/dapr.proto.runtime.v1.Dapr/GetState", GrpcCode.NOT_FOUND).record(20, 1, 1)
    labels = 'app_id="shop",grpc_server_method="/dapr.proto.runtime.v1.Dapr/GetState",grpc_server_status="NotFound"'
    text = metrics.registry.render().decode()
    name = "dapr_grpc_io_server_server_latency_bucket"
    assert [line for line in text.splitlines() if line.startswith(name)] == [
        f'{name}{{{labels},le="5"}} 0',
        f'{name}{{{labels},le="50"}} 1',
        f'{name}{{{labels},le="+Inf"}} 1',
    ]


def test_grpc_status_names_are_complete() -> None:
    """Every gRPC code has the name that Go gives it."""
    assert len(GRPC_STATUS_NAMES) == len(GrpcCode)
    folded = [name.lower().replace("canceled", "cancelled") for name in GRPC_STATUS_NAMES]
    assert folded == [code.name.replace("_", "").lower() for code in GrpcCode]


def test_configuration_of_metrics() -> None:
    """Increased cardinality adds the response count and room for labels; verbs and error codes follow the options."""
    plain = DaprMetrics(MetricsOptions(label_set_limit=10))
    plain.error_code("shop", "ERR_STATE_GET", "state")
    assert lines(plain, "dapr_error_code_total") == []
    metrics = DaprMetrics(
        MetricsOptions(increased_cardinality=True, exclude_verbs=True, record_error_codes=True, label_set_limit=10)
    )
    metrics.http_request("shop", "GET", "/v1.0/state/a/b", 200).record(1, 0, 0)
    metrics.error_code("shop", "ERR_STATE_GET", "state")
    assert metrics.registry.limit == 50
    assert lines(metrics, "dapr_http_server_response_count") == [
        'dapr_http_server_response_count{app_id="shop",path="/v1.0/state/a/b",status="200"} 1'
    ]
    assert lines(metrics, "dapr_error_code_total") == [
        'dapr_error_code_total{app_id="shop",error_code="ERR_STATE_GET",category="state"} 1'
    ]


def test_invented_labels_stay_within_the_bound() -> None:
    """A caller that makes up methods and paths fills neither the families nor what is kept beside them."""
    metrics = DaprMetrics(MetricsOptions(label_set_limit=20))
    for number in range(200):
        metrics.http_request("shop", f"M{number}", f"p{number}", 404).record(1, 0, 0)
        metrics.grpc_call("shop", f"/a.B/{number}", GrpcCode.OK).record(1, 0, 0)
    assert all(len(family) <= 21 for family in metrics.registry.families())
    assert len(metrics._calls) <= 20
    assert 'dapr_http_server_request_count{app_id="_other",method="_other",path="_other",status="_other"} 180' in lines(
        metrics, "dapr_http_server_request_count"
    )


def test_invocations_count_on_both_ends() -> None:
    """An invocation between two apps is sent by one and received by the other, and so is its answer."""
    metrics = DaprMetrics()
    metrics.invocation("front", "back", 200).record(4)
    metrics.invocation("front", "back", 200).record(4)
    start = "dapr_runtime_service_invocation_"
    assert lines(metrics, start) == [
        start + 'req_recv_total{app_id="back",src_app_id="front"} 2',
        start + 'req_sent_total{app_id="front",dst_app_id="back",type="unary"} 2',
        start + 'res_recv_latency_ms_sum{app_id="front",src_app_id="back",status="200"} 8',
        start + 'res_recv_latency_ms_count{app_id="front",src_app_id="back",status="200"} 2',
        start + 'res_recv_total{app_id="front",src_app_id="back",status="200",type="unary"} 2',
        start + 'res_sent_total{app_id="back",dst_app_id="front",status="200"} 2',
    ]


def test_components_and_probes() -> None:
    """Operations on stores and health probes count with their time."""
    metrics = DaprMetrics()
    metrics.state_operation("shop", "cart", "default", "get", success=True).record(1)
    metrics.secret_operation("shop", "vault", "default", "get", success=False).record(1)
    metrics.http_health_probe("shop", 503).record(1)
    metrics.grpc_health_probe("shop", GrpcCode.UNAVAILABLE).record(1)
    metrics.http_call("shop", "", "InvokeService/shop", 201).record(1, 2, 3)
    common = 'app_id="shop",component="cart",namespace="default",operation="get",success="true"'
    assert lines(metrics, "dapr_component_state_count") == [f"dapr_component_state_count{{{common}}} 1"]
    assert len(lines(metrics, "dapr_component_secret")) == 3
    assert lines(metrics, "dapr_http_healthprobes_completed") == [
        'dapr_http_healthprobes_completed_count{app_id="shop",status="503"} 1'
    ]
    assert lines(metrics, "dapr_grpc_io_healthprobes_completed") == [
        'dapr_grpc_io_healthprobes_completed_count{app_id="shop",grpc_client_status="Unavailable"} 1'
    ]
    assert lines(metrics, "dapr_http_client_completed_count") == [
        'dapr_http_client_completed_count{app_id="shop",path="InvokeService/shop",status="201"} 1'
    ]
    assert lines(metrics, "dapr_http_client_received_bytes_sum") == [
        'dapr_http_client_received_bytes_sum{app_id="shop"} 2'
    ]


def test_resiliency() -> None:
    """Of the states of a breaker the present one is 1; policies count when applied and when they act."""
    metrics = DaprMetrics()
    metrics.breaker_state("shop", "res", "default", "outbound", "app_back", "open")
    metrics.breaker_state("shop", "res", "default", "outbound", "app_back", "half-open")
    metrics.policy_executed("shop", "res", "retry", "default", "outbound", "app_back")
    metrics.policy_activated("shop", "res", "retry", "default", "outbound", "app_back")
    states = {line.split('status="')[1].split('"')[0]: line[-1] for line in lines(metrics, "dapr_resiliency_cb_state")}
    assert states == {"closed": "0", "half-open": "1", "open": "0", "unknown": "0"}
    labels = 'app_id="shop",name="res",policy="retry",namespace="default",flow_direction="outbound",target="app_back"'
    assert lines(metrics, "dapr_resiliency_count") == [f"dapr_resiliency_count{{{labels}}} 1"]
    assert lines(metrics, "dapr_resiliency_activations_total") == [f"dapr_resiliency_activations_total{{{labels}}} 1"]


def test_a_forgotten_app_leaves_nothing_and_counts_anew() -> None:
    """After an app is gone nothing of it is rendered; if it comes back it is counted again."""
    metrics = DaprMetrics()
    metrics.http_request("gone", "GET", "GetState", 200).record(1, 1, 1)
    metrics.invocation("stays", "gone", 200).record(1)
    metrics.calls_in_flight("gone").inc()
    metrics.forget_app("gone")
    assert b"gone" not in metrics.registry.render()
    metrics.http_request("gone", "GET", "GetState", 200).record(1, 1, 1)
    assert lines(metrics, "dapr_http_server_request_count") == [
        'dapr_http_server_request_count{app_id="gone",method="GET",path="GetState",status="200"} 1'
    ]


def test_the_whole_exposition_is_read_by_prometheus() -> None:
    """Everything that is rendered passes the parser, dropped log lines among it."""
    metrics = DaprMetrics(version="1.2.3")
    metrics.read_dropped_log_lines(lambda: 5)
    metrics.http_request("shop", "GET", "GetState", 200).record(1, 1, 1)
    families = {family.name: family for family in text_string_to_metric_families(metrics.registry.render().decode())}
    assert families["dapr_shared_log_lines_dropped"].samples[0].value == 5
    assert families["dapr_shared_build_info"].samples[0].labels == {"version": "1.2.3"}
