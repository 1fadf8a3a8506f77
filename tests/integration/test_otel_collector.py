"""Spans of the real process at the OpenTelemetry Collector itself, by each of the three ways to it."""

from __future__ import annotations

import pytest

from tests.support.apps import echo_app
from tests.support.instance import app, component, running
from tests.support.otel_collector import build, otel_collector

pytestmark = pytest.mark.slow

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def _configuration(name, **tracing):
    return {"apiVersion": "dapr.io/v1alpha1", "kind": "Configuration", "metadata": {"name": name},
            "spec": {"tracing": {"samplingRate": "1", **tracing}}}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An instance whose apps export by OTLP over gRPC and HTTP and by Zipkin; `stock` listens."""
    folder = tmp_path_factory.mktemp("otel")
    program = build(folder / "otel-collector")
    with echo_app() as stock, otel_collector(program, folder / "collector") as collected:
        otlp = {
            protocol: {"endpointAddress": address, "protocol": protocol, "isSecure": False}
            for protocol, address in (("grpc", collected.grpc), ("http", collected.http))
        }
        resources = [
            _configuration("by-grpc", otel=otlp["grpc"]),
            _configuration("by-http", otel=otlp["http"]),
            _configuration("by-zipkin", zipkin={"endpointAddress": f"http://{collected.zipkin}/api/v2/spans"}),
            component("statestore", "state.in-memory"),
            app("by-grpc", configuration="by-grpc"),
            app("by-http", configuration="by-http"),
            app("by-zipkin", configuration="by-zipkin"),
            app("stock", stock.port, configuration="by-http"),
        ]
        with running(folder / "instance", resources=resources) as instance:
            instance.collected = collected
            yield instance


@pytest.mark.parametrize("way", ["by-grpc", "by-http", "by-zipkin"])
def test_a_span_arrives_whole(world, way):
    """Name, kind, ids, parent, service and attributes of a state call arrive at the collector as they were sent."""
    path = f"/v1.0/state/statestore/{way}"
    answer = world.ask(
        "GET", path, app=way, headers=[("traceparent", f"00-{TRACE}-{PARENT}-01"), ("dapr-color", "green")]
    )
    (span,) = world.collected.wait_for(service=way, name=path)
    # Zipkin has span names in lower case, which these are.
    assert (span["name"], span["kind"]) == (path, "client")
    assert (span["trace_id"], span["parent_id"]) == (TRACE, PARENT)
    assert answer.header("traceparent") == f"00-{TRACE}-{span['span_id']}-01"
    expected = {
        "dapr.protocol": "http",
        "dapr.api": f"GET {path}",
        "dapr.status_code": "204",
        "db.system": "state",
        "db.name": "statestore",
        "dapr-color": "green",
    }
    assert expected.items() <= span["attributes"].items()


def test_both_sides_of_an_invocation_are_one_trace(world):
    """The callee's span, sent by another protocol, hangs below the caller's."""
    world.ask("POST", "/v1.0/invoke/stock/method/a", b"{}", app="by-grpc")
    (callee,) = world.collected.wait_for(service="stock", name="CallLocal/stock/a", kind="server")
    (caller,) = world.collected.wait_for(service="by-grpc", name="CallLocal/stock/a", kind="client")
    assert (callee["trace_id"], callee["parent_id"]) == (caller["trace_id"], caller["span_id"])
    assert caller["parent_id"] == ""


def test_an_error_arrives_as_the_status(world):
    """From status 400 on the collector has an error with Dapr's words."""
    world.ask("GET", "/v1.0/state/nostore/k", app="by-http", headers=[("traceparent", f"00-{TRACE}-{PARENT}-01")])
    (span,) = world.collected.wait_for(name="/v1.0/state/nostore/k")
    assert (span["status"]["code"], span["status"]["message"]) == (2, "Code(400): Bad Request")
