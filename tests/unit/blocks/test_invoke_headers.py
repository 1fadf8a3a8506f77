"""Which headers cross an invocation: the end-to-end ones, without claims; and who calls is told by us alone."""

from __future__ import annotations

import pytest

from dapr_shared.blocks.invoke_headers import identity_headers, proxy_metadata, request_headers, response_headers

HOP = (
    "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings", "te", "trailer",
    "proxy-authorization", "proxy-authenticate",
)  # fmt: skip
CLAIMS = (
    "dapr-api-token", "dapr-app-id", "dapr-caller-app-id", "dapr-caller-namespace", "dapr-callee-app-id",
    "destination-app-id", "traceparent", "tracestate",
)  # fmt: skip


@pytest.mark.parametrize(
    "name", [*HOP, *CLAIMS, "host", "content-length", "content-type", "expect", "x-bin", "grpc-trace-bin"]
)
def test_never_sent_to_an_app(name):
    """Headers of one hop, claims of identity, framing and binary metadata do not reach an app."""
    assert request_headers([(name.encode(), b"v"), (b"x", b"1")]) == [(b"x", b"1")]


@pytest.mark.parametrize("name", [*HOP, "content-length", "content-type", "x-bin"])
def test_never_sent_to_a_caller(name):
    """Headers of one hop and framing do not come back from an app."""
    assert response_headers([(name.encode(), b"v"), (b"x", b"1")]) == [(b"x", b"1")]


@pytest.mark.parametrize(
    "spelling",
    ["dapr_caller_app_id", "dapr-caller_app-id", "dapr_api_token", "dapr_callee_app_id", ":caller-app-id",
     ":caller_namespace", ":api-token", ":app-id"],
)  # fmt: skip
def test_other_spellings_of_claims(spelling):
    """A claim is stripped also where a server would read its name with underscores, or we would rename it to one."""
    assert request_headers([(spelling.encode(), b"stock")]) == []


@pytest.mark.parametrize("filtered", [request_headers, response_headers])
def test_names_in_connection(filtered):
    """Headers that `connection` names belong to this hop, in any case, in any of several such headers."""
    headers = [
        (b"connection", b"close, X-Mine"),
        (b"x-mine", b"1"),
        (b"connection", b" other ,,"),
        (b"other", b"2"),
        (b"kept", b"3"),
    ]
    assert filtered(headers) == [(b"kept", b"3")]


@pytest.mark.parametrize("filtered", [request_headers, response_headers])
def test_names_of_grpc(filtered):
    """Names of gRPC get a prefix, as Dapr gives them, so that no client or app takes them for its transport's."""
    headers = [(b"grpc-timeout", b"1S"), (b"grpc-status", b"0"), (b":authority", b"a")]
    expected = [(b"dapr-grpc-timeout", b"1S"), (b"dapr-grpc-status", b"0"), (b"dapr-authority", b"a")]
    assert filtered(headers) == expected


def test_everything_else_is_kept():
    """Order, repetition and values of all other headers stay, whatever bytes they hold."""
    headers = [
        (b"b", b"\xff"),
        (b"a", b"1"),
        (b"cookie", b"x"),
        (b"a", b"2"),
        (b"authorization", b"Bearer x"),
        (b"b", b""),
    ]
    assert request_headers(headers) == headers
    assert response_headers(headers) == headers


def test_identity_is_ours():
    """The app is told the proved caller, its namespace and itself; `connection` cannot name these away."""
    forwarded = request_headers([(b"connection", b"dapr-caller-app-id"), (b"dapr-caller-app-id", b"stock")])
    forwarded += identity_headers("orders", "shop", "stock")
    assert forwarded == [
        (b"dapr-caller-app-id", b"orders"),
        (b"dapr-caller-namespace", b"shop"),
        (b"dapr-callee-app-id", b"stock"),
    ]


def test_metadata_of_a_relayed_call():
    """A relayed gRPC call carries the caller's metadata without claims, the proved identity and the trace once."""
    given = [(name, "stock") for name in (*CLAIMS, "dapr-stream", "dapr_caller_app_id") if name != "destination-app-id"]
    given += [("grpc-trace-bin", b"\x00"), ("kept", "1"), ("kept", "2"), ("kept-bin", b"\xff")]
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent = proxy_metadata(given, "orders", "default", "stock", [(b"traceparent", parent)])
    kept = [(key, value) for key, value in sent if key != "grpc-trace-bin"]
    assert kept == [
        ("kept", "1"),
        ("kept", "2"),
        ("kept-bin", b"\xff"),
        ("dapr-caller-app-id", "orders"),
        ("dapr-caller-namespace", "default"),
        ("dapr-callee-app-id", "stock"),
        ("traceparent", parent.decode()),
    ]
    assert [value for key, value in sent if key == "grpc-trace-bin"] != [b"\x00"]
