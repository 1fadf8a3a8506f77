"""Spans of the real process at a collector, over each protocol: names, kinds, parent, attributes, services."""

from __future__ import annotations

import json
import time

import grpc
import pytest

from dapr_shared._proto import runtime_pb
from tests.support.apps import echo_app
from tests.support.block_apps import BindingApp, GrpcBindingApp, binding_app, grpc_binding_app
from tests.support.calls import grpc_channel
from tests.support.collector import collector
from tests.support.instance import app, component, free_ports, running, token_of, write_resources
from tests.support.topic_apps import TopicApp, route, topic_app

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
UNSAMPLED = f"00-{TRACE}-00f067aa0ba902b7-00"


def configuration(name, **tracing):
    return {"apiVersion": "dapr.io/v1alpha1", "kind": "Configuration", "metadata": {"name": name},
            "spec": {"tracing": tracing}}  # fmt: skip


def headers(parent=PARENT, **more):
    return [("traceparent", parent), *more.items()]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An instance whose apps export each in its own way; `stock` listens."""
    folder = tmp_path_factory.mktemp("tracing")
    grpc_port, http_port = free_ports(2)
    otel = {"endpointAddress": f"127.0.0.1:{grpc_port}", "protocol": "grpc", "isSecure": False}
    over_http = {"endpointAddress": f"127.0.0.1:{http_port}", "protocol": "http", "isSecure": False,
                 "headers": ["x-key=secret-of-the-collector"], "timeout": "3s"}  # fmt: skip
    zipkin = {"endpointAddress": f"http://127.0.0.1:{http_port}/api/v2/spans"}
    with echo_app() as stock, collector(folder / "collector", ports=(grpc_port, http_port)) as collected:
        resources = [
            configuration("by-grpc", samplingRate="1", otel=otel),
            configuration("by-http", samplingRate="0.0001", otel=over_http),
            configuration("by-zipkin", samplingRate="1", zipkin=zipkin),
            configuration("off", samplingRate="0", otel=otel),
            configuration("by-log", samplingRate="1", stdout=True),
            component("statestore", "state.in-memory"),
            component("broker", "pubsub.in-memory"),
            app("orders", configuration="by-grpc"),
            app("stock", stock.port, configuration="by-http"),
            app("shop", configuration="by-zipkin"),
            app("silent", configuration="off"),
            app("written", configuration="by-log"),
            app("plain"),
        ]
        with running(folder / "instance", resources=resources) as instance:
            instance.stock, instance.collected = stock, collected
            yield instance


def test_a_state_call_over_grpc_export(world):
    """The span of a sampled call: Dapr's name, kind and attributes, its parent, its service, and no token."""
    answer = world.ask(
        "GET", "/v1.0/state/statestore/tea?metadata.x=y", app="orders",
        headers=headers(**{"dapr-color": "green", "tracestate": "a=b"}),
    )  # fmt: skip
    (span,) = world.collected.wait_for(name="/v1.0/state/statestore/tea")
    assert (span["protocol"], span["service"], span["kind"]) == ("otlp-grpc", "orders", "client")
    assert (span["trace_id"], span["parent_id"], span["tracestate"]) == (TRACE, "00f067aa0ba902b7", "a=b")
    assert span["scope"] == "dapr-diagnostics"
    assert span["status"] == "unset"
    assert 0 < span["nanoseconds"] < 5e9
    assert span["attributes"] == {
        "dapr.protocol": "http",
        "dapr.api": "GET /v1.0/state/statestore/tea",
        "dapr.status_code": "204",
        "http.request.method": "GET",
        "url.full": "/v1.0/state/statestore/tea?metadata.x=y",
        "server.address": "127.0.0.1",
        "db.system": "state",
        "db.connection_string": "state",
        "db.statement": "GET /v1.0/state/statestore/tea",
        "db.name": "statestore",
        "dapr-color": "green",
    }
    assert answer.header("traceparent") == f"00-{TRACE}-{span['span_id']}-01"
    assert token_of("orders") not in json.dumps(world.collected.spans())


def test_an_error_is_the_span_s_status(world):
    """From status 400 on a span is an error with Dapr's words."""
    world.ask("GET", "/v1.0/state/nostore/tea", app="orders", headers=headers())
    (span,) = world.collected.wait_for(name="/v1.0/state/nostore/tea")
    assert (span["status"], span["message"]) == ("error", "Code(400): Bad Request")


def test_an_invocation_has_a_span_on_each_side(world):
    """Caller and callee have one each, of their own services and at their own collectors; the app gets the second's id."""
    baggage = "user=x%20y,plan=gold"
    world.ask(
        "POST", "/v1.0/invoke/stock/method/a/b", b"{}", app="orders", headers=headers(baggage=baggage, tracestate="a=b")
    )  # fmt: skip
    (caller,) = world.collected.wait_for(name="CallLocal/stock/a/b", kind="client")
    (callee,) = world.collected.wait_for(name="CallLocal/stock/a/b", kind="server")
    assert (caller["service"], caller["protocol"]) == ("orders", "otlp-grpc")
    assert (callee["service"], callee["protocol"]) == ("stock", "otlp-http")
    assert callee["headers"]["x-key"] == "secret-of-the-collector"
    assert (callee["trace_id"], callee["parent_id"]) == (TRACE, caller["span_id"])
    assert caller["attributes"] | {"rpc.service": "ServiceInvocation", "net.peer.name": "stock"} == caller["attributes"]
    assert callee["attributes"]["dapr.invoke_method"] == "a/b"
    seen = {name.lower(): value for name, value in dict(world.stock.seen[-1].headers).items()}
    assert seen["traceparent"] == f"00-{TRACE}-{callee['span_id']}-01"
    assert (seen["tracestate"], seen["baggage"]) == ("a=b", baggage)


def test_a_callee_that_refuses_has_answered(world):
    """The caller's span is an error where the app answered one; the callee's is not: it has answered. As in Dapr."""
    world.ask("POST", "/v1.0/invoke/stock/method/status/409", b"{}", app="orders", headers=headers())
    (caller,) = world.collected.wait_for(name="CallLocal/stock/status/409", kind="client")
    (callee,) = world.collected.wait_for(name="CallLocal/stock/status/409", kind="server")
    assert (caller["status"], callee["status"]) == ("error", "unset")


def test_each_event_of_a_bulk_publish_has_a_span(world):
    """Spans of the kind producer below the call's own, one an event; a call that failed makes them errors too."""
    entry = {"event": "x", "contentType": "text/plain"}
    body = json.dumps([{"entryId": "1", **entry}, {"entryId": "2", **entry}]).encode()
    world.ask("POST", "/v1.0/publish/bulk/broker/cakes", body, app="orders", headers=headers())
    (call,) = world.collected.wait_for(name="/v1.0/publish/bulk/broker/cakes", kind="client")
    made = world.collected.wait_for(2, name="/v1.0/publish/bulk/broker/cakes", kind="producer")
    assert [(span["parent_id"], span["trace_id"], span["status"]) for span in made] == [
        (call["span_id"], TRACE, "unset")
    ] * 2
    assert len({span["span_id"] for span in (call, *made)}) == 3
    twice = json.dumps([{"entryId": "1", **entry}] * 2).encode()
    world.ask("POST", "/v1.0/publish/bulk/broker/twice", twice, app="orders", headers=headers())
    made = world.collected.wait_for(2, name="/v1.0/publish/bulk/broker/twice", kind="producer")
    assert {span["status"] for span in made} == {"error"}


def test_zipkin(world):
    """Zipkin's JSON, with the app as service; a new trace begins with the app's own rate."""
    world.ask("GET", "/v1.0/state/statestore/by-zipkin", app="shop")
    (span,) = world.collected.wait_for(protocol="zipkin", name="/v1.0/state/statestore/by-zipkin")
    assert (span["service"], span["kind"], span["parent_id"]) == ("shop", "client", "")
    assert span["attributes"]["db.name"] == "statestore"


def test_grpc_calls(world):
    """A call over gRPC has a span named for its method, with what the request says; an error its status."""
    metadata = [("dapr-api-token", token_of("orders")), ("traceparent", PARENT), ("dapr-x", "1")]
    with grpc_channel(world.grpc) as channel:
        save = channel.unary_unary("/dapr.proto.runtime.v1.Dapr/GetState")
        request = runtime_pb.GetStateRequest(store_name="statestore", key="k")
        save(request.SerializeToString(), metadata=metadata, timeout=5)
        request = runtime_pb.GetStateRequest(store_name="none", key="k")
        with pytest.raises(grpc.RpcError):
            save(request.SerializeToString(), metadata=metadata, timeout=5)
    good, bad = world.collected.wait_for(2, name="/dapr.proto.runtime.v1.Dapr/GetState")
    assert (good["service"], good["kind"], good["parent_id"]) == ("orders", "client", "00f067aa0ba902b7")
    assert good["attributes"] == {
        "dapr.protocol": "grpc",
        "dapr.api": "/dapr.proto.runtime.v1.Dapr/GetState",
        "rpc.service": "Dapr",
        "db.system": "state",
        "db.connection_string": "state",
        "db.statement": "/dapr.proto.runtime.v1.Dapr/GetState",
        "db.name": "statestore",
        "dapr-x": "1",
    }
    assert (good["status"], bad["status"]) == ("unset", "error")


def test_what_has_no_span(world):
    """No span of an unsampled parent, of an app whose rate is 0 or that exports nothing, of health, of a refused token."""
    before = len(world.collected.spans())
    world.ask("GET", "/v1.0/state/statestore/unsampled", app="orders", headers=headers(UNSAMPLED))
    answer = world.ask("GET", "/v1.0/state/statestore/silent", app="silent", headers=headers())
    world.ask("GET", "/v1.0/state/statestore/plain", app="plain", headers=headers())
    world.ask("GET", "/v1.0/healthz", headers=headers())
    world.ask("GET", "/v1.0/state/statestore/nobody", headers=[*headers(), ("dapr-api-token", "wrong")])
    assert answer.header("traceparent") is None or answer.header("traceparent") == PARENT
    world.ask("GET", "/v1.0/state/statestore/last", app="orders", headers=headers())
    world.collected.wait_for(name="/v1.0/state/statestore/last")
    assert [span["name"] for span in world.collected.spans()[before:]] == ["/v1.0/state/statestore/last"]


def test_spans_in_the_log(world):
    """With `stdout` a span is a line of the log, without tokens."""
    world.ask("GET", "/v1.0/state/statestore/logged", app="written", headers=headers())
    line = world.wait_for_line("span", name="/v1.0/state/statestore/logged")
    assert (line["scope"], line["app_id"], line["trace_id"]) == ("dapr.runtime.trace", "written", TRACE)
    assert token_of("written") not in world.output()
    assert "secret-of-the-collector" not in world.output()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_delivery_continues_the_publisher_s_trace(tmp_path, protocol):
    """Publish → delivery: the subscriber's span has the publisher's as parent, and its app gets its id. In single-app mode."""
    grpc_port, http_port = free_ports(2)
    port = grpc_port if protocol == "grpc" else http_port
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(configuration(
        "c", samplingRate="1", otel={"endpointAddress": f"127.0.0.1:{port}", "protocol": protocol, "isSecure": False}
    )))  # fmt: skip
    with (
        collector(tmp_path / "collector", ports=(grpc_port, http_port)) as collected,
        topic_app(TopicApp([route("teas", "/teas", pubsub="broker")])) as subscriber,running(
        tmp_path / "i", f"--config={file}", f"--app-port={subscriber.port}", app_id="orders",
        resources=[component("broker", "pubsub.in-memory")],
    ) as instance
    ):  # fmt: skip
        instance.wait_for_line("subscription started")
        instance.ask("POST", "/v1.0/publish/broker/teas", b'"green"', headers=headers())
        (publish,) = collected.wait_for(name="/v1.0/publish/broker/teas")
        (delivery,) = collected.wait_for(name="pubsub/teas")
        assert publish["attributes"]["messaging.destination.name"] == "teas"
        assert (delivery["kind"], delivery["parent_id"]) == ("client", publish["span_id"])
        assert delivery["attributes"] == {"messaging.system": "pubsub", "messaging.destination.name": "teas"}
        assert delivery["status"] == "unset"


def test_the_environment_turns_tracing_on(tmp_path):
    """OTEL_… variables as daprd reads them: endpoint, protocol, headers; every trace is sampled; service and resource."""
    grpc_port, http_port = free_ports(2)
    env = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{http_port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_INSECURE": "true",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=from-the-environment",
        "OTEL_SERVICE_NAME": "named",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
    }
    with (
        collector(tmp_path / "collector", ports=(grpc_port, http_port)) as collected,
        running(tmp_path / "i", app_id="orders", env=env) as instance,
    ):
        instance.ask("GET", "/v1.0/metadata")
        (span,) = collected.wait_for(name="/v1.0/metadata")
    assert (span["service"], span["protocol"]) == ("named", "otlp-http")
    assert span["resource"]["deployment.environment"] == "test"
    assert span["headers"]["x-key"] == "from-the-environment"


def test_spans_are_sent_before_the_end(tmp_path):
    """What is sampled right before SIGTERM arrives: the last spans are sent within the grace."""
    grpc_port, http_port = free_ports(2)
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"127.0.0.1:{grpc_port}", "OTEL_EXPORTER_OTLP_INSECURE": "true"}
    with collector(tmp_path / "collector", ports=(grpc_port, http_port)) as collected:
        with running(tmp_path / "i", app_id="orders", env=env) as instance:
            for number in range(20):
                instance.ask("GET", f"/v1.0/state/statestore/{number}")
            instance.stop()
        assert len(collected.spans()) == 20


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_collector_that_is_away_costs_spans_and_nothing_else(tmp_path, protocol):
    """No request waits for it; the queue is bounded, what is dropped is counted and said; the end comes in time."""
    port = free_ports(1)[0]
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_INSECURE": "true",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret-of-the-collector",
    }
    with running(tmp_path / "i", app_id="orders", env=env) as instance:
        slowest = 0.0
        for number in range(2800):
            started = time.monotonic()
            instance.ask("GET", f"/v1.0/state/statestore/{number}")
            slowest = max(slowest, time.monotonic() - started)
        assert slowest < 2
        assert instance.metric("dapr_shared_span_dropped_total", reason="queue_full") > 0
        instance.wait_for_line("spans dropped", reason="queue_full")
        started = time.monotonic()
        assert instance.stop() == 0
        assert time.monotonic() - started < 8
    assert "secret-of-the-collector" not in instance.output()
    assert "Traceback" not in instance.output()


@pytest.mark.parametrize(
    ("tracing", "words"),
    [
        ({"otel": {"endpointAddress": "h:1", "protocol": "thrift"}}, "'thrift' is not one of http, grpc"),
        ({"otel": {"endpointAddress": "h:1", "protocol": "grpc", "timeout": "soon"}}, "tracing.otel.timeout"),
        ({"otel": {"endpointAddress": "h:1", "protocol": "grpc", "headers": ["key"]}}, "tracing.otel.headers"),
        ({"zipkin": {"endpointAddress": "localhost:9411"}}, "tracing.zipkin.endpointAddress"),
    ],
)
def test_a_wrong_configuration_is_named_and_the_former_stays(tmp_path, tracing, words):
    """On reload a wrong `tracing` is one line that names the field; the instance goes on as it was."""
    good = [configuration("c", samplingRate="1"), app("orders", configuration="c")]
    with running(tmp_path / "i", resources=good) as instance:
        wrong = [configuration("c", **tracing), app("orders", configuration="c")]
        write_resources(instance.folder / "resources/all.yaml", wrong)
        line = instance.wait_for_line("reload failed, what failed stays as it was")
        assert words in line["problem"]
        assert "all.yaml" in line["problem"]
        assert instance.ask("GET", "/v1.0/metadata", app="orders").status == 200


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_event_of_an_input_binding(tmp_path, protocol):
    """Each event of a clock begins a trace with a span named for the binding, and the app gets its id."""
    grpc_port, http_port = free_ports(2)
    otel = {"endpointAddress": f"127.0.0.1:{grpc_port}", "protocol": "grpc", "isSecure": False}
    made = GrpcBindingApp(wants=["clock"]) if protocol == "grpc" else BindingApp(wants={"/clock": 200})
    serving = grpc_binding_app(made) if isinstance(made, GrpcBindingApp) else binding_app(made)
    with serving as orders, collector(tmp_path / "collector", ports=(grpc_port, http_port)) as collected:
        resources = [
            configuration("traced", samplingRate="1", otel=otel),
            app("orders", orders.port, protocol=protocol, configuration="traced"),
            component("clock", "bindings.cron", schedule="@every 200ms"),
        ]
        with running(tmp_path / "i", resources=resources):
            span = collected.wait_for(name="bindings/clock")[0]
    first = orders.got[0]
    parent = first.metadata["traceparent"] if protocol == "grpc" else first[1]["traceparent"]
    assert parent == f"00-{span['trace_id']}-{span['span_id']}-01"
    assert (span["service"], span["kind"], span["parent_id"], span["status"]) == ("orders", "client", "", "unset")
    place = "/dapr.proto.runtime.v1.AppCallback/OnBindingEvent" if protocol == "grpc" else "POST /clock"
    assert span["attributes"] == {
        "db.name": "clock",
        "db.system": "bindings",
        "db.connection_string": place,
        "rpc.service": "Dapr",
    }
