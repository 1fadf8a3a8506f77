"""Invocations as messages between instances, and back."""

from __future__ import annotations

import pytest

from dapr_shared._proto import common_pb, internals_pb, rpc_pb
from dapr_shared.contracts.invocation import ChannelError, InvokeRequest, InvokeResponse
from dapr_shared.core.errors import GrpcCode
from dapr_shared.core.ids import AppRef
from dapr_shared.mesh.messages import ReceivedRequest, canonical, received_response, request_message, response_message


def _values(metadata) -> dict[str, list[str]]:
    return {key: list(metadata[key].values) for key in metadata}


def test_a_request_goes_and_comes():
    """What is sent of a request is what is received, with the length of its body and where it passed through."""
    headers = [
        (b"x-a", b"1"),
        (b"x-a", b"2"),
        (b"dapr-caller-app-id", b"orders"),
        (b"x-bin", b"\x00"),
        (b"x-old", b"\xe4"),
    ]
    request = InvokeRequest("a/b", "PUT", b"c=%20", headers, b"body", b"text/x")
    message = request_message(request, AppRef("stock", "shop"), {"X-Forwarded-For": "10.0.0.1"})
    assert _values(message.metadata) == {
        "X-A": ["1", "2"], "dapr-caller-app-id": ["orders"], "X-Old": ["\xe4"], "X-Forwarded-For": ["10.0.0.1"],
        "destination-app-id": ["stock"], "Content-Length": ["4"],
    }  # fmt: skip
    received = ReceivedRequest(internals_pb.InternalInvokeRequest.FromString(message.SerializeToString()))
    assert (received.callee, received.caller, received.content_length, received.from_grpc) == (
        "stock",
        "orders",
        4,
        False,
    )
    assert (received.method, received.verb, received.query, received.content_type) == (
        "a/b",
        "PUT",
        b"c=%20",
        b"text/x",
    )
    assert sorted(received.headers) == [
        (b"dapr-caller-app-id", b"orders"), (b"x-a", b"1"), (b"x-a", b"2"), (b"x-forwarded-for", b"10.0.0.1"), (b"x-old", b"\xc3\xa4"),
    ]  # fmt: skip


def test_what_a_sidecar_says_is_no_header_of_its_app():
    """Daprd passes on its app's headers beside its own words, in another spelling: they are not what it says."""
    message = internals_pb.InternalInvokeRequest(message=common_pb.InvokeRequest(method="m"))
    for name, value in (
        ("Dapr-Caller-App-Id", "forged"), ("Dapr-Caller-Namespace", "forged"), ("Dapr-Callee-App-Id", "forged"),
        ("Destination-App-Id", "forged"), ("Content-Type", "application/grpc"),
    ):  # fmt: skip
        message.metadata[name].values.append(value)
    received = ReceivedRequest(message)
    assert (received.callee, received.caller, received.caller_namespace, received.from_grpc) == ("", "", "", False)
    message.metadata["dapr-caller-app-id"].values.append("orders")
    message.metadata["content-type"].values.append("application/grpc")
    received = ReceivedRequest(message)
    assert (received.caller, received.from_grpc) == ("orders", True)


@pytest.mark.parametrize(("verb", "number"), [("GET", 1), ("PATCH", 9), ("PROPFIND", 3)])
def test_verbs(verb, number):
    """A verb that the protocol has no number for becomes POST, as in daprd."""
    message = request_message(InvokeRequest("m", verb, b"", [], b"", None), AppRef("stock"), {})
    assert message.message.http_extension.verb == number


def test_an_answer_of_an_http_app():
    """Status, headers, content type and length of an HTTP app's answer cross."""
    message = response_message(InvokeResponse(404, [(b"x-a", b"1")], b"none", b"text/x"))
    assert (message.status.code, message.message.content_type) == (404, "text/x")
    assert _values(message.headers) == {"X-A": ["1"], "Content-Length": ["4"]}
    answer = received_response(message, b"none")
    assert (answer.status, answer.headers, answer.body, answer.content_type) == (
        404,
        [(b"x-a", b"1")],
        b"none",
        b"text/x",
    )
    assert answer.grpc_status is None


def test_an_answer_of_a_grpc_app():
    """Code, message, details, headers and trailers of a gRPC app's answer cross."""
    details = rpc_pb.Status(code=9, message="no")
    details.details.add().type_url = "type.googleapis.com/a.B"
    status = (GrpcCode.FAILED_PRECONDITION, "no", details.SerializeToString())
    message = response_message(
        InvokeResponse(400, [(b"h", b"1")], b"{}", None, grpc_status=status, trailers=[(b"t", b"2")])
    )
    assert (message.status.code, message.status.message, len(message.status.details)) == (9, "no", 1)
    answer = received_response(message, b"")
    assert (answer.status, answer.headers, answer.trailers) == (400, [(b"h", b"1")], [(b"t", b"2")])
    assert answer.grpc_status == status
    assert answer.body.startswith(b'{"code":9,"message":"no"')


def test_an_event_stream_of_daprd():
    """Daprd answers event streams with the code OK and the content type among the headers."""
    message = internals_pb.InternalInvokeResponse(status=internals_pb.Status(code=0))
    message.headers["Content-Type"].values.append("text/event-stream")
    answer = received_response(message, b"")
    assert (answer.status, answer.content_type, answer.headers) == (200, b"text/event-stream", [])


def test_answers_that_are_none():
    """An answer without a status is no answer; an unknown code is UNKNOWN."""
    with pytest.raises(ChannelError, match="required fields"):
        received_response(internals_pb.InternalInvokeResponse(), b"")
    answer = received_response(internals_pb.InternalInvokeResponse(status=internals_pb.Status(code=77)), b"")
    assert answer.grpc_status is not None
    assert answer.grpc_status[0] is GrpcCode.UNKNOWN


def test_names():
    """Names are in Go's spelling, but for Dapr's own."""
    assert [canonical(name) for name in (b"content-type", b"x-a", b"etag", b"dapr-x", b"a--b")] == [
        "Content-Type", "X-A", "Etag", "dapr-x", "A--B",
    ]  # fmt: skip
