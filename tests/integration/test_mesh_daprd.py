"""Invocation between an instance and a real daprd, both ways (the environment variable DAPRD names one)."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

import grpc
import pytest

from dapr_shared._proto import common_pb, runtime_pb
from tests.support.apps import SERVICE, echo_app, grpc_echo_app, until
from tests.support.calls import call, connect, grpc_channel, request_bytes
from tests.support.daprd import Daprd, daprd, daprd_path
from tests.support.instance import app, free_ports, running, token_of
from tests.support.mesh import finds_peers_at, internal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.apps import EchoApp, GrpcEchoApp
    from tests.support.calls import Answer
    from tests.support.instance import Instance

TOKEN = ("dapr-api-token", token_of("orders"))
Code = grpc.StatusCode


class Way:
    """One direction: who calls, and with what proof."""

    def __init__(self, caller: Daprd | dict[str, Instance], token: list[tuple[str, str]]) -> None:
        self._caller = caller
        self.token = token

    def caller_of(self, target: str) -> Daprd | Instance:
        """A sidecar has one app, so that ours has a caller for each: all that is not here is at one address."""
        return self._caller[target] if isinstance(self._caller, dict) else self._caller

    def ask(self, target: str, method: str = "POST", path: str = "a", body: bytes | None = None, headers=()) -> Answer:
        """Invoke a method over HTTP."""
        where = f"/v1.0/invoke/{target}/method/{path}"
        return self.caller_of(target).ask(method, where, body, headers=[*self.token, *headers])


@pytest.fixture(scope="module")
def web() -> Iterator[EchoApp]:
    with echo_app() as made:
        yield made


@pytest.fixture(scope="module")
def remote() -> Iterator[GrpcEchoApp]:
    with grpc_echo_app() as made:
        yield made


@pytest.fixture(scope="module")
def to_ours(web, remote, tmp_path_factory) -> Iterator[Way]:
    """A daprd calls apps of an instance."""
    daprd_path()
    folder, (port,) = tmp_path_factory.mktemp("to-ours"), free_ports(1)
    empty = folder / "empty"
    empty.mkdir()
    deny = {
        "apiVersion": "dapr.io/v1alpha1", "kind": "Configuration", "metadata": {"name": "deny"},
        "spec": {"accessControl": {"defaultAction": "deny"}},
    }  # fmt: skip
    resources = [
        app("web", web.port), app("remote", remote.port, protocol="grpc"), app("closed", web.port, configuration="deny"), deny,
    ]  # fmt: skip
    with (
        running(folder / "instance", *internal(port), resources=resources),
        daprd(
            folder / "daprd", empty, "orders", finds_peers_at(folder, port), ready="/v1.0/healthz/outbound"
        ) as caller,
    ):
        yield Way(caller, [])


@pytest.fixture(scope="module")
def to_daprd(web, remote, tmp_path_factory) -> Iterator[Way]:
    """An instance calls apps that have a daprd."""
    daprd_path()
    folder = tmp_path_factory.mktemp("to-daprd")
    empty = folder / "empty"
    empty.mkdir()
    callers: dict[str, Instance] = {}
    with ExitStack() as stack:
        for name, port, protocol in (("web", web.port, "http"), ("remote", remote.port, "grpc")):
            made: Daprd = stack.enter_context(
                daprd(folder / name, empty, name, f"--app-port={port}", f"--app-protocol={protocol}")
            )
            callers[name] = stack.enter_context(
                running(folder / f"ours-{name}", finds_peers_at(folder, made.internal_port), resources=[app("orders")])
            )
        yield Way(callers, [TOKEN])


@pytest.fixture(params=["daprd calls ours", "ours calls daprd"])
def way(request) -> Way:
    return request.getfixturevalue("to_ours" if request.param == "daprd calls ours" else "to_daprd")


@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_an_http_app(way, web, verb):
    """Verb, path, query, headers, content type and body cross, and the app learns who calls."""
    body = b"body" if verb in {"POST", "PUT", "PATCH"} else None
    headers = [("content-type", "text/x"), ("x-header", "v"), ("dapr-caller-app-id", "forged")]
    answer = way.ask("web", verb, "a/b?c=d&e=%20", body, headers)
    assert answer.status == 200, answer
    seen = web.seen[-1]
    assert (seen.method, seen.path, seen.body) == (verb, "/a/b?c=d&e=%20", body or b"")
    assert seen.header("x-header") == ["v"]
    assert seen.header("content-type") == ["text/x"]
    assert seen.header("dapr-caller-app-id") == ["orders"]
    assert seen.header("dapr-caller-namespace")[0] in {"default", ""}
    assert seen.header("dapr-callee-app-id") == ["web"]
    assert seen.header("destination-app-id") == []
    assert len(seen.header("forwarded")) == 1
    assert answer.header("content-type") == "application/json"


@pytest.mark.parametrize("status", [201, 204, 301, 400, 404, 500, 503])
def test_statuses(way, status):
    """The app's status is the answer."""
    assert way.ask("web", path=f"status/{status}").status == status


@pytest.mark.parametrize("length", [0, 5, 2049, 65537, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies(way, length, chunked):
    """Bodies of any length arrive whole, announced or in chunks."""
    body = bytes(index % 251 for index in range(length))
    headers = [("transfer-encoding", "chunked")] if chunked else []
    sent = (b"%x\r\n%s\r\n" % (length, body) if length else b"") + b"0\r\n\r\n" if chunked else body
    answer = way.ask("web", body=sent, headers=headers, path="sink")
    assert answer.json() == {"size": length, "sha256": hashlib.sha256(body).hexdigest()}


def test_big_answers(way):
    """An answer of 20 MB streams through."""
    answer = way.ask("web", "GET", "big/20000000")
    assert (answer.status, len(answer.body)) == (200, 20_000_000)


def test_events_arrive_one_by_one(way, web):
    """A stream of events reaches the caller as it is made."""
    with connect(way.caller_of("web").http) as made:
        headers = [*way.token, ("accept", "text/event-stream")]
        made.sendall(request_bytes("GET", "/v1.0/invoke/web/method/sse/2", headers=headers))
        for number in range(2):
            web.events.release()
            received = b""
            while f"data: {number}".encode() not in received:
                received += made.recv(65536)


def test_both_directions_at_once(to_daprd):
    """An app behind a daprd may answer while the body of its request still comes. (A daprd sends all before it reads.)."""
    with connect(to_daprd.caller_of("web").http) as made:
        headers = [*to_daprd.token, ("transfer-encoding", "chunked")]
        made.sendall(request_bytes("POST", "/v1.0/invoke/web/method/pipe", headers=headers) + b"5\r\nfirst\r\n")
        received = b""
        while b"first" not in received:
            received += made.recv(65536)
        made.sendall(b"6\r\nsecond\r\n0\r\n\r\n")
        while not received.endswith(b"0\r\n\r\n"):
            received += made.recv(65536)
    assert b"second" in received


def test_a_caller_that_goes_away(way, web):
    """When the caller's client hangs up, the app's request is broken off."""
    before = web.cancelled
    with connect(way.caller_of("web").http) as made:
        made.sendall(request_bytes("GET", "/v1.0/invoke/web/method/hang", headers=way.token))
        until(lambda: web.hanging)
    until(lambda: web.cancelled > before)


def test_the_trace_goes_on(way, web):
    """The callee is in the caller's trace."""
    trace = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("tracestate", "a=b")]
    assert way.ask("web", headers=trace).status == 200
    assert web.seen[-1].header("traceparent")[0].startswith("00-0af7651916cd43dd8448eb211c80319c-")


def test_an_http_caller_of_a_grpc_app(way):
    """OnInvoke of a gRPC app gets the call, and its answer comes back."""
    answer = way.ask("remote", path="a/b?c=d", body=b"body", headers=[("content-type", "text/x"), ("x-y", "z")])
    assert answer.status == 200, answer
    told = answer.json()
    assert (told["method"], told["verb"], told["query"], told["type"]) == ("a/b", "POST", "c=d", "text/x")
    assert (told["metadata"]["x-y"], told["metadata"]["dapr-caller-app-id"]) == ("z", "orders")
    assert answer.header("app-header") == "header"


@pytest.mark.parametrize(("code", "status"), [(3, 400), (5, 404), (7, 403), (13, 500), (14, 503)])
def test_statuses_of_a_grpc_app(way, code, status):
    """The status of a gRPC app is an HTTP status and JSON for an HTTP caller."""
    answer = way.ask("remote", path=f"fail/{code}")
    assert answer.status == status
    assert answer.json()["code"] == code
    assert answer.json()["details"][0]["reason"] == "AS_TOLD"


@pytest.mark.parametrize("target", ["web", "remote"])
def test_invoke_service(way, target):
    """InvokeService calls apps of both protocols."""
    message = common_pb.InvokeRequest(method="a/b", content_type="text/x")
    message.data.value = b"x" * 100_000
    message.http_extension.verb = common_pb.HTTPExtension.POST
    message.http_extension.querystring = "c=d"
    request = runtime_pb.InvokeServiceRequest(id=target, message=message)
    with grpc_channel(way.caller_of(target).grpc) as channel:
        answer = call(channel, "InvokeService", request, [*way.token, ("x-y", "z")])
        assert answer.code is Code.OK, answer
        told = json.loads(common_pb.InvokeResponse.FromString(answer.data).data.value)
        names = {k.lower(): v for k, v in told["headers"]} if target == "web" else told["metadata"]
        assert (names["x-y"], names["dapr-caller-app-id"]) == ("z", "orders")
        assert len(told["body"]) > 100_000
        request.message.method = "status/404" if target == "web" else "fail/5"
        assert call(channel, "InvokeService", request, way.token).code is Code.NOT_FOUND


def test_grpc_calls_are_relayed(way, remote):
    """Any method of a gRPC app can be called: messages, headers, trailers, bytes and streams cross."""
    with grpc_channel(way.caller_of("remote").grpc) as channel:
        metadata = [*way.token, ("dapr-app-id", "remote"), ("x-y", "z"), ("x-bytes-bin", b"\x00\xff")]
        metadata.append(("dapr-caller-app-id", "forged"))
        answer = call(channel, f"/{SERVICE}/Say", b"hello", metadata)
        assert (answer.code, answer.data) == (Code.OK, b"hello")
        assert ("app-header", "header") in answer.initial
        assert ("app-trailer", "trailer") in answer.trailers
        seen = remote.called[-1][1]
        assert (seen["x-y"], seen["x-bytes-bin"]) == ("z", b"\x00\xff")
        assert (seen["dapr-caller-app-id"], seen["dapr-callee-app-id"]) == ("orders", "remote")
        answer = call(channel, f"/{SERVICE}/Fail", b"9", metadata)
        assert (answer.code, answer.details) == (Code.FAILED_PRECONDITION, "as told")
        streamed = tuple(metadata)
        chat = channel.stream_stream(f"/{SERVICE}/Chat")(iter([b"a", b"b"]), metadata=streamed)
        assert list(chat) == [b"<a>", b"<b>"]
        assert list(channel.unary_stream(f"/{SERVICE}/Count")(b"3", metadata=streamed)) == [b"0", b"1", b"2"]


def test_what_daprd_may_not_call(to_ours):
    """A daprd is told what is not served here, and what a policy closes: 403 for the latter."""
    answer = to_ours.ask("nobody")
    assert (answer.status, answer.code) == (500, "ERR_DIRECT_INVOKE")
    assert "is not served here" in answer.json()["message"]
    answer = to_ours.ask("closed")
    assert (answer.status, answer.code) == (403, "ERR_DIRECT_INVOKE")
    assert "access control policy has denied access" in answer.json()["message"]
