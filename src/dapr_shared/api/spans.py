"""What the span of a sampled API call is named and says. Facts: reference behaviours §7.

Second step of the request road (pipeline), for sampled calls of apps whose traces are exported alone: the front doors
ask `SpanTable.active` before they come here. A call that proves no app has no span, as it would be nobody's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from dapr_shared.api.trace import trace_of_grpc, trace_of_http
from dapr_shared.blocks.pubsub.publish import Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from dapr_shared.api.http.call import HttpCall
    from dapr_shared.api.http.routes import Route
    from dapr_shared.identity.caller import Caller
    from dapr_shared.observability.spans import Span, SpanTable
    from dapr_shared.observability.tracing import TraceContext, Tracing
    from dapr_shared.wire.grpc.interface import Call
    from dapr_shared.wire.http.messages import Headers

_DATABASE_APIS: Final = frozenset({"state", "secrets", "bindings"})
_STORE_OF_METHOD: Final = {
    "GetState": ("state", "store_name"),
    "SaveState": ("state", "store_name"),
    "DeleteState": ("state", "store_name"),
    "GetSecret": ("secrets", "store_name"),
    "InvokeBinding": ("bindings", "name"),
}
_PUBLISH_METHODS: Final = frozenset({"PublishEvent", "BulkPublishEvent", "BulkPublishEventAlpha1"})


def begin_http(
    table: SpanTable, call: HttpCall, route: Route | None, sampled: TraceContext | None, default: Tracing, ago: float
) -> None:
    """Begin the span of a request whose caller is proved, if one is wanted.

    `sampled` is the context as `default`, the instance's tracing, decided; `ago` is how many seconds ago the request came.
    """
    caller, request = call.caller, call.request
    traced = table.of(caller.ref) if caller is not None else None
    if traced is None or b"/healthz" in call.path:
        return
    if traced.tracing is not default:  # the caller's own Configuration decides
        sampled, call.trace = trace_of_http(traced.tracing, request.headers)
    if sampled is None or not sampled.sampled:
        return
    path = unquote_to_bytes(call.path).decode("utf-8", "replace")
    span = traced.begin(sampled, path, "client", ago=ago)
    if span is None:
        return
    call.span = span
    call.trace = span.headers()
    span.copy_headers(request.headers)
    operation = f"{request.method} {path}"
    span.attributes |= {
        "dapr.protocol": "http",
        "dapr.api": operation,
        "http.request.method": request.method,
        "url.full": request.target.decode("latin-1"),
        "server.address": request.peer,
    }
    if route is None or not call.params:
        return
    if route.api in _DATABASE_APIS:
        _database(span, route.api, call.params[0], operation)
    elif route.api == "publish" and len(call.params) > 1:
        _messaging(span, call.params[1])


def traces_of_events(span: Span | None, trace: Headers, ending: str = "") -> Callable[[], Trace]:
    """Makes the trace of each event of a bulk publish: of a span of its own where the call has one, else a new id alone.

    `ending`: what Dapr puts behind the call's name in those of these spans.
    """
    if span is None:
        return Trace.carried(trace).child
    return lambda: Trace.carried(span.producer(span.name + ending).headers())


def invoked(span: Span, target: str, method: str) -> None:
    """Say that the call is an invocation: the span is named for what is called."""
    span.name = f"CallLocal/{target}/{method}"
    span.attributes |= {"rpc.service": "ServiceInvocation", "net.peer.name": target}


def end_http(call: HttpCall, status: int) -> None:
    """End the span of a request."""
    span, call.span = call.span, None
    if span is not None:
        span.attributes["dapr.status_code"] = str(status)
        span.end_with_status(status)


def begin_grpc(
    table: SpanTable, call: Call, caller: Caller, trace: Headers, sampled: TraceContext | None, default: Tracing
) -> tuple[Headers, Span | None]:
    """Begin the span of a call, if one is wanted; the trace headers to pass on, and the span."""
    traced = table.of(caller.ref)
    if traced is None:
        return trace, None
    if traced.tracing is not default:
        sampled, trace = trace_of_grpc(traced.tracing, call.metadata)
    span = traced.begin(sampled, call.method, "client")
    if span is None:
        return trace, None
    span.copy_headers(
        (key.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for key, value in call.metadata
        if isinstance(value, str)
    )
    return span.headers(), span


def grpc_request(span: Span, path: str, name: str, request: object) -> None:
    """Take what a request of Dapr's own interface says."""
    attributes = span.attributes
    attributes |= {"dapr.protocol": "grpc", "dapr.api": path}
    if name == "InvokeService":
        invoked(span, str(getattr(request, "id", "")), str(getattr(getattr(request, "message", None), "method", "")))
    elif name in _PUBLISH_METHODS:
        attributes["rpc.service"] = "Dapr"
        _messaging(span, str(getattr(request, "topic", "")))
    elif name in _STORE_OF_METHOD:
        attributes["rpc.service"] = "Dapr"
        api, field = _STORE_OF_METHOD[name]
        _database(span, api, str(getattr(request, field, "")), path)


def _database(span: Span, api: str, name: str, operation: str) -> None:
    span.attributes |= {"db.system": api, "db.connection_string": api, "db.statement": operation, "db.name": name}


def _messaging(span: Span, topic: str) -> None:
    span.attributes |= {"messaging.system": "pubsub", "messaging.destination.name": topic}
