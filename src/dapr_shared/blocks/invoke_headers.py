"""Which headers cross an invocation, and which names the app sees.

Part of the invoke block, both ways. Facts: reference http-api §3 (filtering, added headers), grpc-api §1.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.observability.tracing import grpc_trace_bin

if TYPE_CHECKING:
    from dapr_shared.wire.grpc.interface import Metadata
    from dapr_shared.wire.http.messages import Headers

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
        b"te",
        b"trailer",
        b"trailers",
        b"proxy-authorization",
        b"proxy-authenticate",
    }
)
_NEVER_TO_APP = _HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"content-type",
    b"expect",
    b"dapr-api-token",
    b"dapr-app-id",
    b"dapr-caller-app-id",
    b"dapr-caller-namespace",
    b"dapr-callee-app-id",
    b"destination-app-id",
    b"traceparent",
    b"tracestate",
}
_NEVER_TO_CALLER = _HOP_BY_HOP | {b"content-length", b"content-type"}


def request_headers(headers: Headers) -> Headers:
    """The end-to-end headers of a request for an app: claims of identity, framing and hop-by-hop fields are gone."""
    return _filtered(headers, _NEVER_TO_APP)


def response_headers(headers: Headers) -> Headers:
    """The end-to-end headers of an app's answer."""
    return _filtered(headers, _NEVER_TO_CALLER)


_NEVER_PROXIED = frozenset(
    {
        "dapr-api-token",
        "dapr-app-id",
        "dapr-callee-app-id",
        "dapr-callee-namespace",
        "dapr-caller-app-id",
        "dapr-caller-namespace",
        "dapr-stream",
        "traceparent",
        "tracestate",
        "grpc-trace-bin",
    }
)


def proxy_metadata(
    metadata: Metadata, caller_app_id: str, caller_namespace: str, callee_app_id: str, trace: Headers
) -> list[tuple[str, str | bytes]]:
    """The metadata of a relayed gRPC call: the caller's own without claims, the proved identity, the trace."""
    kept: list[tuple[str, str | bytes]] = [
        (key, value) for key, value in metadata if key.replace("_", "-") not in _NEVER_PROXIED
    ]
    kept += [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in (*identity_headers(caller_app_id, caller_namespace, callee_app_id), *trace)
    ]
    kept += [(name.decode("latin-1"), value) for name, value in binary_trace(trace)]
    return kept


def binary_trace(trace: Headers) -> Headers:
    """What a gRPC app gets beside the W3C text (reference grpc-api §1.2): the same parent as `grpc-trace-bin`.

    Empty where tracing is off and the caller's own `traceparent` is not one.
    """
    for name, value in trace:
        if name == b"traceparent":
            try:
                return [(b"grpc-trace-bin", grpc_trace_bin(value))]
            except ValueError:
                return []
    return []


def _filtered(headers: Headers, never: frozenset[bytes]) -> Headers:
    named: set[bytes] | None = None
    for name, value in headers:
        if name == b"connection":  # RFC 9110 §7.6.1: fields named there belong to this hop
            named = (named or set[bytes]()) | {token.strip().lower() for token in value.split(b",")}
    kept: Headers = []
    for name, value in headers:
        if name in never or (named is not None and name in named) or name.endswith(b"-bin"):
            continue
        # WSGI servers show `dapr_caller_app_id` as `dapr-caller-app-id`: the claim is one in either spelling.
        if b"_" in name and name.replace(b"_", b"-") in never:
            continue
        if name.startswith(b"grpc-"):
            kept.append((b"dapr-" + name, value))
        elif name.startswith(b":"):
            renamed = b"dapr-" + name[1:]
            if renamed.replace(b"_", b"-") not in never:  # `:caller-app-id` must not become a claim
                kept.append((renamed, value))
        else:
            kept.append((name, value))
    return kept


def identity_headers(caller_app_id: str, caller_namespace: str, callee_app_id: str) -> Headers:
    """What tells the app who calls; made here from the proved caller, never taken from the request."""
    return [
        (b"dapr-caller-app-id", caller_app_id.encode()),
        (b"dapr-caller-namespace", caller_namespace.encode()),
        (b"dapr-callee-app-id", callee_app_id.encode()),
    ]
