"""Invocation across protocols: HTTP callers of gRPC apps, gRPC callers of HTTP apps (reference grpc-api §1.3 to §1.5)."""

from __future__ import annotations

import base64
import json
import time

import grpc
import pytest

from dapr_shared._proto import common_pb, rpc_pb, runtime_pb
from tests.support.apps import SERVICE, echo_app, grpc_echo_app
from tests.support.calls import call, grpc_channel
from tests.support.http2 import grpc_listener
from tests.support.instance import app, free_ports, running, token_of

METADATA = [("dapr-api-token", token_of("orders"))]
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def http_app():
    with echo_app() as made:
        yield made


@pytest.fixture(scope="module")
def grpc_app():
    with grpc_echo_app() as made:
        yield made


@pytest.fixture(scope="module", params=["http2", "aio"])
def instance(request, http_app, grpc_app, tmp_path_factory):
    resources = [
        app("orders"),
        app("web", http_app.port),
        app("remote", grpc_app.port, protocol="grpc", channel={"apiToken": {"value": "for-the-app"}}),
        app("gone", free_ports(1)[0]),
        app("gone-grpc", free_ports(1)[0], protocol="grpc"),
    ]
    folder = tmp_path_factory.mktemp(f"grpc-{request.param}")
    with running(folder, f"--grpc-engine={request.param}", resources=resources) as made:
        yield made


@pytest.fixture(scope="module")
def channel(instance):
    with grpc_channel(instance.grpc) as made:
        yield made


def _request(target: str, method: str, data: bytes = b"", verb: str = "POST", query: str = "", kind: str = ""):
    message = common_pb.InvokeRequest(method=method, content_type=kind)
    message.data.value = data
    message.http_extension.verb = common_pb.HTTPExtension.Verb.Value(verb)
    message.http_extension.querystring = query
    return runtime_pb.InvokeServiceRequest(id=target, message=message)


def _details(answer) -> list[rpc_pb.ErrorInfo]:
    status = rpc_pb.Status.FromString(dict(answer.trailers)["grpc-status-details-bin"])
    assert status.code == answer.code.value[0]
    assert status.message == answer.details
    return [rpc_pb.ErrorInfo.FromString(d.value) for d in status.details if d.type_url.endswith("ErrorInfo")]


# HTTP caller, gRPC app ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_an_http_caller_of_a_grpc_app(instance, grpc_app, verb):
    """OnInvoke gets method, verb, query, content type, body and headers; its answer comes back over HTTP."""
    headers = [("content-type", "text/x"), ("x-header", "v"), ("connection", "close, x-hop"), ("x-hop", "gone")]
    answer = instance.ask(verb, "/v1.0/invoke/remote/method/a/b?c=d&e=%20", b"body", headers=headers, app="orders")
    assert answer.status == 200, answer
    assert answer.header("content-type") == "application/json"
    assert answer.header("app-header") == "header"
    request, metadata = grpc_app.invoked[-1]
    assert (request.method, request.content_type, request.data.value) == ("a/b", "text/x", b"body")
    assert common_pb.HTTPExtension.Verb.Name(request.http_extension.verb) == verb
    assert request.http_extension.querystring == "c=d&e=%20"
    assert metadata["x-header"] == "v"
    assert metadata["dapr-caller-app-id"] == "orders"
    assert metadata["dapr-callee-app-id"] == "remote"
    assert metadata["dapr-api-token"] == "for-the-app"
    assert "x-hop" not in metadata


@pytest.mark.parametrize(
    ("code", "status"),
    [(1, 408), (2, 500), (3, 400), (4, 504), (5, 404), (6, 409), (7, 403), (8, 429), (9, 400), (10, 409), (11, 400),
     (12, 501), (13, 500), (14, 503), (15, 500), (16, 401)],
)  # fmt: skip
def test_a_grpc_apps_error_over_http(instance, code, status):
    """A gRPC app's code becomes the HTTP status of the table; the body is the status as JSON with its details."""
    answer = instance.ask("POST", f"/v1.0/invoke/remote/method/fail/{code}", b"", app="orders")
    assert answer.status == status
    told = answer.json()
    assert told["code"] == code
    assert told["message"] == "as told"
    assert told["details"][0]["reason"] == "AS_TOLD"


def test_a_grpc_app_that_refuses_is_answered_at_once(instance, channel):
    """A gRPC app that refuses connections is a failed invocation in under a second, for both kinds of callers."""
    started = time.monotonic()
    answer = instance.ask("POST", "/v1.0/invoke/gone-grpc/method/x", b"", app="orders")
    assert (answer.status, answer.code) == (500, "ERR_DIRECT_INVOKE")
    assert call(channel, "InvokeService", _request("gone-grpc", "x"), METADATA).code is Code.UNAVAILABLE
    assert call(channel, f"/{SERVICE}/Say", b"", [*METADATA, ("dapr-app-id", "gone-grpc")]).code is Code.UNAVAILABLE
    assert time.monotonic() - started < 3


# gRPC caller, HTTP app ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_grpc_caller_of_an_http_app(channel, http_app, verb):
    """InvokeService sends verb, path, query, content type, body and metadata; the answer has type and headers."""
    request = _request("web", "a/b c", b"\x00body", verb, "x=1&y=%20", "text/x")
    metadata = [*METADATA, ("x-header", "v"), ("x-data-bin", b"gone"), ("dapr-caller-app-id", "claimed")]
    answer = call(channel, "InvokeService", request, metadata)
    assert answer.code is Code.OK, answer
    response = common_pb.InvokeResponse.FromString(answer.data)
    told = json.loads(response.data.value)
    assert response.content_type in {"application/json; charset=utf-8", "application/json"}
    assert (told["method"], told["path"]) == (verb, "/a/b%20c?x=1&y=%20")
    assert base64.b64decode(told["body"]) == b"\x00body"
    seen = http_app.seen[-1]
    assert seen.header("content-type") == ["text/x"]
    assert seen.header("x-header") == ["v"]
    assert seen.header("x-data-bin") == []
    assert seen.header("dapr-caller-app-id") == ["orders"]
    assert seen.header("dapr-api-token") == []
    assert ("dapr-http-status", "200") in answer.initial


def test_head_by_grpc(channel):
    """HEAD is a verb of InvokeService too; its answer has no data."""
    answer = call(channel, "InvokeService", _request("web", "x", verb="HEAD"), METADATA)
    assert answer.code is Code.OK
    assert common_pb.InvokeResponse.FromString(answer.data).data.value == b""


@pytest.mark.parametrize(
    ("status", "code"),
    [(200, 0), (201, 0), (202, 0), (204, 0), (299, 0), (300, 2), (302, 2), (304, 2), (400, 13), (401, 16), (402, 2),
     (403, 7), (404, 5), (405, 2), (408, 1), (409, 6), (418, 2), (429, 8), (500, 2), (501, 12), (502, 2), (503, 14),
     (504, 4), (599, 2)],
)  # fmt: skip
def test_an_http_apps_status_over_grpc(channel, status, code):
    """An HTTP app's status becomes the code of the table, with the status and the body's beginning in the details."""
    answer = call(channel, "InvokeService", _request("web", f"status/{status}", b"x"), METADATA)
    assert answer.code.value[0] == code
    if code:
        (info,) = _details(answer)
        assert info.domain == "dapr.io"
        assert info.metadata["http.code"] == str(status)
        assert len(info.metadata["http.error_message"]) <= 63
        if status != 304:
            assert info.metadata["http.error_message"].startswith("{")


def test_the_status_of_an_http_app_is_told(instance, channel):
    """The status of an HTTP app stands in the header `dapr-http-status`, also of an error."""
    for status in (201, 404):
        answer = call(channel, "InvokeService", _request("web", f"status/{status}"), METADATA)
        assert ("dapr-http-status", str(status)) in answer.initial


# gRPC caller, gRPC app ---------------------------------------------------------------------------------------------
def test_a_grpc_caller_of_a_grpc_app(channel, grpc_app):
    """InvokeService reaches OnInvoke with its metadata; headers and trailers come back."""
    request = _request("remote", "a/b", b"body", "PUT", "c=d", "text/x")
    answer = call(channel, "InvokeService", request, [*METADATA, ("x-header", "v")])
    assert answer.code is Code.OK, answer
    got, metadata = grpc_app.invoked[-1]
    assert (got.method, got.data.value, got.content_type) == ("a/b", b"body", "text/x")
    assert metadata["x-header"] == "v"
    assert metadata["dapr-caller-app-id"] == "orders"
    assert metadata["dapr-api-token"] == "for-the-app"
    assert ("app-header", "header") in answer.initial
    assert ("app-trailer", "trailer") in answer.trailers


@pytest.mark.parametrize("code", range(1, 17))
def test_a_grpc_apps_error_over_grpc(channel, code):
    """A gRPC app's code, message and details reach the caller of InvokeService unchanged."""
    answer = call(channel, "InvokeService", _request("remote", f"fail/{code}"), METADATA)
    assert (answer.code.value[0], answer.details) == (code, "as told")
    assert [info.reason for info in _details(answer)] == ["AS_TOLD"]


@pytest.mark.parametrize("engine", ["http2", "aio"])
def test_trace_context_reaches_a_grpc_app(tmp_path, engine):
    """A gRPC app gets the trace as W3C text and in gRPC's binary form, from HTTP and gRPC callers alike."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    parent = ("traceparent", f"00-{trace}-b7ad6b7169203331-01")
    with grpc_listener() as (port, calls):
        resources = [app("orders"), app("remote", port, protocol="grpc")]
        with running(tmp_path, f"--grpc-engine={engine}", resources=resources) as made, grpc_channel(made.grpc) as wire:
            made.ask("POST", "/v1.0/invoke/remote/method/x", b"", headers=[parent], app="orders")
            call(wire, "InvokeService", _request("remote", "x"), [*METADATA, parent])
            call(wire, f"/{SERVICE}/Say", b"", [*METADATA, parent, ("dapr-app-id", "remote")])
    own = (b"/dapr.proto.runtime.v1.AppCallback/OnInvoke", f"/{SERVICE}/Say".encode())
    relayed = [headers for headers in calls if headers[b":path"] in own]
    assert len(relayed) == 3
    for headers in relayed:
        assert headers[b"traceparent"].split(b"-")[1].decode() == trace
        binary = headers[b"grpc-trace-bin"]
        assert bytes.fromhex(trace) in base64.b64decode(binary + b"=" * (-len(binary) % 4))


def test_an_unknown_app_by_grpc(channel):
    """An app that nobody serves is an error that names it, for InvokeService and for a relayed call."""
    for answer in (
        call(channel, "InvokeService", _request("nobody", "x"), METADATA),
        call(channel, f"/{SERVICE}/Say", b"", [*METADATA, ("dapr-app-id", "nobody")]),
    ):
        assert answer.code in (Code.INTERNAL, Code.NOT_FOUND)
        assert "nobody" in answer.details


def test_sizes(channel):
    """A message of nearly the limit passes both ways; one above it is RESOURCE_EXHAUSTED."""
    answer = call(channel, f"/{SERVICE}/Say", bytes((4 << 20) - 100), [*METADATA, ("dapr-app-id", "remote")])
    assert (answer.code, len(answer.data)) == (Code.OK, (4 << 20) - 100)
    answer = call(channel, f"/{SERVICE}/Say", bytes((4 << 20) + 100), [*METADATA, ("dapr-app-id", "remote")])
    assert answer.code is Code.RESOURCE_EXHAUSTED


def test_garbage_is_refused(channel):
    """Bytes that are no message of the method are INVALID_ARGUMENT."""
    assert call(channel, "InvokeService", b"\xff\xff\xff", METADATA).code is Code.INVALID_ARGUMENT
