"""Invocation between two instances: headers, statuses, bodies, streams, failures (reference internal §3)."""

from __future__ import annotations

import hashlib
import json
import time

import grpc
import pytest

from dapr_shared._proto import common_pb, internals_pb, runtime_pb
from tests.support.apps import SERVICE, echo_app, grpc_echo_app, until
from tests.support.calls import call, connect, grpc_channel, request_bytes
from tests.support.instance import app, digest_of, free_ports, running, token_of
from tests.support.mesh import finds_peers_at, internal

METADATA = [("dapr-api-token", token_of("orders"))]
CALL_LOCAL = "/dapr.proto.internals.v1.ServiceInvocation/CallLocal"
CALL_LOCAL_STREAM = "/dapr.proto.internals.v1.ServiceInvocation/CallLocalStream"
Code = grpc.StatusCode


def _denying(name: str, default: str) -> dict:
    policy = {"appId": "orders", "namespace": "default", "trustDomain": "public", "defaultAction": "allow"}
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Configuration",
        "metadata": {"name": name},
        "spec": {"accessControl": {"defaultAction": default, "policies": [policy]}},
    }


@pytest.fixture(scope="module")
def web():
    with echo_app() as made:
        yield made


@pytest.fixture(scope="module")
def remote():
    with grpc_echo_app() as made:
        yield made


@pytest.fixture(scope="module")
def port():
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def callee(web, remote, port, tmp_path_factory):
    resources = [
        app("web", web.port, channel={"apiToken": {"value": "for-the-app"}}),
        app("remote", remote.port, protocol="grpc"),
        app("twice", web.port, namespace="north"),
        app("twice", free_ports(1)[0], namespace="south", tokens=[{"sha256": digest_of("south")}]),
        app("closed", web.port, configuration="closed"),
        app("open", web.port, configuration="open"),
        app("gone", free_ports(1)[0]),
        app("mute"),
        _denying("closed", "deny"),
        _denying("open", "allow"),
    ]
    with running(tmp_path_factory.mktemp("callee"), *internal(port), resources=resources) as made:
        yield made


@pytest.fixture(scope="module", params=["http2", "aio"])
def caller(request, callee, port, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"caller-{request.param}")
    flags = (finds_peers_at(folder, port), f"--grpc-engine={request.param}")
    with running(folder, *flags, resources=[app("orders")]) as made:
        yield made


@pytest.fixture(scope="module")
def channel(caller):
    with grpc_channel(caller.grpc) as made:
        yield made


@pytest.fixture
def inside(callee, port):
    """A channel to the internal port of the callee."""
    with grpc_channel(f"127.0.0.1:{port}") as made:
        yield made


def _invoke(instance, target, method="POST", body=None, **options):
    return instance.ask(
        method, f"/v1.0/invoke/{target}/method/{options.pop('path', 'a')}", body, app="orders", **options
    )


# Over HTTP ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_an_http_app_of_another_instance(caller, web, verb):
    """Verb, path, query, headers and body reach an app of another instance, and its answer comes back, as on one."""
    sent = [
        ("content-type", "text/x"), ("x-header", "v"), ("x-header", "w"), ("connection", "close, x-hop"), ("x-hop", "gone"),
        ("dapr-caller-app-id", "forged"), ("dapr-api-token", token_of("orders")),
    ]  # fmt: skip
    path = "/v1.0/invoke/web/method/a/b%20c?d=e&f=%20"
    body = b"body" if verb in {"POST", "PUT", "PATCH"} else None
    answer = caller.ask(verb, path, body, headers=sent)
    assert answer.status == 200, answer
    seen = web.seen[-1]
    assert (seen.method, seen.path, seen.body) == (verb, "/a/b%20c?d=e&f=%20", body or b"")
    assert seen.header("x-header") == ["v", "w"]
    assert seen.header("x-hop") == []
    assert seen.header("content-type") == ["text/x"]
    assert seen.header("dapr-caller-app-id") == ["orders"]
    assert seen.header("dapr-caller-namespace") == ["default"]
    assert seen.header("dapr-callee-app-id") == ["web"]
    assert seen.header("dapr-api-token") == ["for-the-app"]
    assert seen.header("destination-app-id") == []
    assert len(seen.header("traceparent")) == 1
    assert "by=" in seen.header("forwarded")[0]
    assert seen.header("transfer-encoding") == [], "a body of a known length stays one"
    assert answer.header("content-type") == "application/json"


@pytest.mark.parametrize("status", [201, 204, 301, 304, 400, 404, 500, 503])
def test_statuses_of_the_app(caller, web, status):
    """Whatever status the app answers is the answer; none of them is tried again."""
    before = len(web.seen)
    answer = _invoke(caller, "web", path=f"status/{status}")
    assert answer.status == status
    assert len(web.seen) == before + 1


def test_the_trace_goes_on(caller, web):
    """The callee is in the caller's trace, with its state and baggage."""
    trace = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"), ("tracestate", "a=b"), ("baggage", "c=d"),
    ]  # fmt: skip
    assert _invoke(caller, "web", headers=trace).status == 200
    seen = web.seen[-1]
    assert seen.header("traceparent")[0].startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert (seen.header("tracestate"), seen.header("baggage")) == (["a=b"], ["c=d"])


@pytest.mark.parametrize("length", [0, 1, 65536, 65537, 4_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_of_any_length(caller, length, chunked):
    """Bodies arrive whole, announced or in chunks, whatever their length below the limit."""
    body = bytes(index % 251 for index in range(length))
    headers = [("transfer-encoding", "chunked")] if chunked else []
    sent = (b"%x\r\n%s\r\n" % (length, body) if length else b"") + b"0\r\n\r\n" if chunked else body
    answer = _invoke(caller, "web", body=sent, headers=headers, path="sink")
    assert answer.json() == {"size": length, "sha256": hashlib.sha256(body).hexdigest()}


def test_a_body_over_the_limit(caller):
    """A body that is longer than the limit of the caller's instance is refused as it is for an app of one instance."""
    answer = _invoke(caller, "web", body=bytes(5_000_000), path="sink")
    assert (answer.status, answer.code) == (500, "ERR_DIRECT_INVOKE")


@pytest.mark.parametrize("announced", [False, True])
def test_big_answers(caller, announced):
    """An answer longer than any limit of a body streams through; its length is told where the app told it."""
    headers = [("x-length", "yes")] if announced else []
    answer = _invoke(caller, "web", "GET", path="big/20000000", headers=headers)
    assert (answer.status, len(answer.body)) == (200, 20_000_000)
    assert answer.header("content-length") == ("20000000" if announced else None)


def test_both_directions_at_once(caller):
    """An app may answer while the body of its request still comes."""
    with connect(caller.http) as made:
        head = request_bytes(
            "POST",
            "/v1.0/invoke/web/method/pipe",
            headers=[("dapr-api-token", token_of("orders")), ("transfer-encoding", "chunked")],
        )
        made.sendall(head + b"5\r\nfirst\r\n")
        received = b""
        while b"first" not in received:
            received += made.recv(65536)
        made.sendall(b"6\r\nsecond\r\n0\r\n\r\n")
        while not received.endswith(b"0\r\n\r\n"):
            received += made.recv(65536)
    assert received.startswith(b"HTTP/1.1 200")
    assert b"second" in received


def test_events_arrive_one_by_one(caller, web):
    """A stream of events reaches the caller as it is made, not at its end."""
    with connect(caller.http) as made:
        headers = [("dapr-api-token", token_of("orders")), ("accept", "text/event-stream")]
        made.sendall(request_bytes("GET", "/v1.0/invoke/web/method/sse/2", headers=headers))
        for number in range(2):
            web.events.release()
            received = b""
            while f"data: {number}".encode() not in received:
                received += made.recv(65536)
        assert (received + read_to_end(made)).endswith(b"0\r\n\r\n")


def read_to_end(made) -> bytes:
    received = b""
    while piece := made.recv(65536):
        received += piece
    return received


def test_a_caller_that_goes_away(caller, web):
    """When the caller's client hangs up, the app's request is broken off, through both instances."""
    before = web.cancelled
    with connect(caller.http) as made:
        made.sendall(
            request_bytes("GET", "/v1.0/invoke/web/method/hang", headers=[("dapr-api-token", token_of("orders"))])
        )
        until(lambda: web.hanging)
    until(lambda: web.cancelled > before)


def test_a_slow_reader_holds_the_app_back(caller, callee):
    """An answer that nobody reads does not pile up in either instance."""
    before = caller.memory() + callee.memory()
    with connect(caller.http) as made:
        made.sendall(
            request_bytes(
                "GET", "/v1.0/invoke/web/method/big/300000000", headers=[("dapr-api-token", token_of("orders"))]
            )
        )
        assert made.recv(1)
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            assert caller.memory() + callee.memory() < before + 60_000_000
            time.sleep(0.1)


# gRPC --------------------------------------------------------------------------------------------------------------
def test_an_http_caller_of_a_grpc_app(caller, remote):
    """OnInvoke of a gRPC app of another instance gets the call, and its answer comes back over HTTP."""
    answer = _invoke(caller, "remote", body=b"body", path="a/b?c=d", headers=[("content-type", "text/x"), ("x-y", "z")])
    assert answer.status == 200, answer
    told = answer.json()
    assert (told["method"], told["verb"], told["query"], told["type"]) == ("a/b", "POST", "c=d", "text/x")
    assert (told["metadata"]["x-y"], told["metadata"]["dapr-caller-app-id"]) == ("z", "orders")
    assert answer.header("app-header") == "header"
    assert "traceparent" in remote.invoked[-1][1]


@pytest.mark.parametrize(("code", "status"), [(3, 400), (5, 404), (7, 403), (13, 500), (14, 503)])
def test_statuses_of_a_grpc_app(caller, remote, code, status):
    """The status of a gRPC app is its HTTP status and JSON for an HTTP caller; none is tried again."""
    before = len(remote.invoked)
    answer = _invoke(caller, "remote", path=f"fail/{code}")
    assert answer.status == status
    assert answer.json()["code"] == code
    assert answer.json()["details"][0]["reason"] == "AS_TOLD"
    assert len(remote.invoked) == before + 1


def _service(target: str, method: str, data: bytes = b"", verb: str = "POST") -> runtime_pb.InvokeServiceRequest:
    message = common_pb.InvokeRequest(method=method, content_type="text/x")
    message.data.value = data
    message.http_extension.verb = common_pb.HTTPExtension.Verb.Value(verb)
    message.http_extension.querystring = "c=d"
    return runtime_pb.InvokeServiceRequest(id=target, message=message)


@pytest.mark.parametrize("target", ["web", "remote"])
def test_invoke_service(channel, target):
    """InvokeService calls apps of another instance, over HTTP and gRPC alike."""
    answer = call(channel, "InvokeService", _service(target, "a/b", b"x" * 100_000), [*METADATA, ("x-y", "z")])
    assert answer.code is Code.OK, answer
    response = common_pb.InvokeResponse.FromString(answer.data)
    told = json.loads(response.data.value)
    names = {k.lower(): v for k, v in told["headers"]} if target == "web" else told["metadata"]
    assert (names["x-y"], names["dapr-caller-app-id"]) == ("z", "orders")
    if target == "web":
        assert told["path"] == "/a/b?c=d"
        assert ("dapr-http-status", "200") in [*answer.initial, *answer.trailers]
    else:
        assert told["type"] == "text/x"
        assert ("app-trailer", "trailer") in answer.trailers


def test_invoke_service_of_a_failing_grpc_app(channel):
    """A gRPC caller gets code, message and details of a gRPC app of another instance."""
    answer = call(channel, "InvokeService", _service("remote", "fail/9"), METADATA)
    assert (answer.code, answer.details) == (Code.FAILED_PRECONDITION, "as told")
    assert b"AS_TOLD" in dict(answer.trailers)["grpc-status-details-bin"]


def test_grpc_calls_are_relayed(channel, remote):
    """Any method of a gRPC app of another instance can be called: messages, headers, trailers and bytes cross unchanged."""
    metadata = [*METADATA, ("dapr-app-id", "remote"), ("x-y", "z"), ("x-bytes-bin", b"\x00\xff")]
    answer = call(channel, f"/{SERVICE}/Say", b"hello", metadata)
    assert (answer.code, answer.data) == (Code.OK, b"hello")
    assert ("app-header", "header") in answer.initial
    assert ("app-bytes-bin", b"\x00\xff") in answer.initial
    assert ("app-trailer", "trailer") in answer.trailers
    seen = remote.called[-1][1]
    assert (seen["x-y"], seen["x-bytes-bin"]) == ("z", b"\x00\xff")
    assert (seen["dapr-caller-app-id"], seen["dapr-callee-app-id"]) == ("orders", "remote")
    assert not {"dapr-api-token", "dapr-app-id", "dapr-callee-namespace"} & set(seen)


def test_grpc_streams_are_relayed(channel):
    """Streams of every kind cross message by message."""
    metadata = (*METADATA, ("dapr-app-id", "remote"))
    assert list(channel.unary_stream(f"/{SERVICE}/Count")(b"3", metadata=metadata)) == [b"0", b"1", b"2"]
    joined = channel.stream_unary(f"/{SERVICE}/Join")(iter([b"a", b"b"]), metadata=metadata)
    assert joined == b"a,b"
    chat = channel.stream_stream(f"/{SERVICE}/Chat")(iter([b"a", b"b"]), metadata=metadata)
    assert list(chat) == [b"<a>", b"<b>"]


def test_a_deadline_reaches_the_app(channel, remote):
    """The deadline of a relayed call ends it at the app as well."""
    before = remote.cancelled
    with pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary(f"/{SERVICE}/Hang")(b"", metadata=(*METADATA, ("dapr-app-id", "remote")), timeout=0.3)
    assert failed.value.code() is Code.DEADLINE_EXCEEDED
    until(lambda: remote.cancelled > before)


# Whom and who ------------------------------------------------------------------------------------------------------
def test_an_app_that_the_peer_does_not_serve(caller):
    """The peer says so, and the caller is told."""
    answer = _invoke(caller, "nobody")
    assert (answer.status, answer.code) == (500, "ERR_DIRECT_INVOKE")
    assert "code = NotFound desc = app nobody is not served here" in answer.json()["message"]


def test_two_namespaces_with_one_app_id(caller, callee, inside):
    """The namespace of the target says which is meant; where a call names none, it is refused, not guessed."""
    assert _invoke(caller, "twice.north").status == 200
    assert _invoke(caller, "twice.south").status == 500
    request = internals_pb.InternalInvokeRequest(message=common_pb.InvokeRequest(method="a"))
    request.message.http_extension.verb = 1
    request.metadata["destination-app-id"].values.append("twice")
    answer = call(inside, CALL_LOCAL, request)
    assert answer.code is Code.NOT_FOUND
    assert "several namespaces" in answer.details
    assert callee.metric("dapr_shared_peer_calls_refused_total", reason="not_served") > 0


@pytest.mark.parametrize("target", ["gone", "mute"])
def test_an_app_that_is_not_there(caller, target):
    """An app that its own instance does not reach fails at once: another try would not find it either."""
    started = time.monotonic()
    answer = _invoke(caller, target)
    assert (answer.status, answer.code) == (500, "ERR_DIRECT_INVOKE")
    assert "code = Internal desc = error invoking app channel" in answer.json()["message"]
    assert time.monotonic() - started < 0.9


def test_access_policies_know_no_caller(caller, callee):
    """Nothing proves a caller of another instance: the default action decides, also where a policy names the app."""
    denied = _invoke(caller, "closed")
    assert (denied.status, denied.code) == (403, "ERR_DIRECT_INVOKE")
    assert "access control policy has denied access" in denied.json()["message"]
    assert _invoke(caller, "open").status == 200
    assert callee.metric("dapr_shared_peer_calls_refused_total", reason="access_control") > 0


def test_what_is_counted(caller, callee):
    """Both instances count an invocation under Dapr's names, each its own side."""
    sent = {"app_id": "orders", "dst_app_id": "web", "type": "unary"}
    received = {"app_id": "web", "src_app_id": "orders"}
    before = caller.metric("dapr_runtime_service_invocation_req_sent_total", **sent)
    before_there = callee.metric("dapr_runtime_service_invocation_req_recv_total", **received)
    assert _invoke(caller, "web").status == 200
    assert caller.metric("dapr_runtime_service_invocation_req_sent_total", **sent) == before + 1
    assert callee.metric("dapr_runtime_service_invocation_req_recv_total", **received) == before_there + 1
    assert caller.metric("dapr_runtime_service_invocation_req_recv_total", **received) == 0


# The internal port -------------------------------------------------------------------------------------------------
def _leading(app_id: str, **fields) -> internals_pb.InternalInvokeRequestStream:
    message = internals_pb.InternalInvokeRequestStream()
    message.request.ver = internals_pb.V1
    message.request.message.method = fields.get("method", "sink")
    message.request.message.http_extension.verb = fields.get("verb", 3)
    message.request.metadata["destination-app-id"].values.append(app_id)
    return message


def _payload(data: bytes, sequence: int) -> internals_pb.InternalInvokeRequestStream:
    return internals_pb.InternalInvokeRequestStream(payload=common_pb.StreamPayload(data=data, seq=sequence))


def _streamed(inside, messages) -> tuple[grpc.StatusCode, str]:
    made = inside.stream_stream(CALL_LOCAL_STREAM)(iter([one.SerializeToString() for one in messages]), timeout=10)
    try:
        list(made)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return Code.OK, ""


def test_wrong_streams(inside):
    """What is no invocation is refused with daprd's words; a body that is out of order fails."""
    no_head = internals_pb.InternalInvokeRequestStream(payload=common_pb.StreamPayload(data=b"x"))
    assert _streamed(inside, [no_head])[0] is Code.INVALID_ARGUMENT
    assert _streamed(inside, [])[0] is Code.INVALID_ARGUMENT
    code, text = _streamed(inside, [_leading("web"), _payload(b"a", 0), _payload(b"b", 2)])
    assert (code, "invalid sequence number" in text) == (Code.INTERNAL, True)
    code, text = _streamed(inside, [_leading("web"), _payload(b"a", 0), _leading("web")])
    assert (code, "non-leading chunk" in text) == (Code.INTERNAL, True)
    assert _streamed(inside, [_leading("web", method="a#b")])[0] is Code.INVALID_ARGUMENT
    assert _streamed(inside, [_leading("web", verb=0)])[0] is Code.INVALID_ARGUMENT
    code, text = _streamed(inside, [_leading("web"), *(_payload(bytes(1_000_000), n) for n in range(6))])
    assert (code, "longer than" in text) == (Code.INTERNAL, True)


def test_calls_that_are_not_there(inside):
    """Actors of peers are not served yet and say so; garbage is an invalid argument; a call must name its app."""
    assert call(inside, CALL_LOCAL.replace("CallLocal", "CallActor")).code is Code.UNIMPLEMENTED
    assert call(inside, CALL_LOCAL, b"\xff\xff").code is Code.INVALID_ARGUMENT
    assert call(inside, f"/{SERVICE}/Say").code is Code.UNKNOWN
    request = internals_pb.InternalInvokeRequest(message=common_pb.InvokeRequest(method="a"))
    assert call(inside, CALL_LOCAL, request).code is Code.NOT_FOUND


def test_whole_calls(inside):
    """CallLocal answers the same with whole bodies."""
    request = _leading("web", method="a?").request
    request.message.method = "a"
    request.message.data.value = b"body"
    request.message.content_type = "text/x"
    answer = call(inside, CALL_LOCAL, request)
    response = internals_pb.InternalInvokeResponse.FromString(answer.data)
    assert response.status.code == 200
    told = json.loads(response.message.data.value)
    assert (told["method"], told["body"]) == ("POST", "Ym9keQ==")
    assert response.message.content_type == "application/json"


def test_the_dapr_api_is_not_at_the_internal_port(inside):
    """Nothing of the Dapr API can be called there: it is taken for a method of some app."""
    answer = call(inside, "GetMetadata", b"", [("dapr-app-id", "web")])
    assert answer.code is Code.INTERNAL
    assert "is not a gRPC app" in answer.details
