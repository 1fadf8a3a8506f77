"""The trace step of the pipeline: which trace context a call has and what of it is passed on.

First step of the request road, right after the wire. Facts: reference behaviours §7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.core import errors
from dapr_shared.observability.tracing import TraceContext, Tracing, baggage_problem

if TYPE_CHECKING:
    from dapr_shared.wire.grpc.interface import Metadata
    from dapr_shared.wire.http.messages import Headers


_NAMES = frozenset((b"traceparent", b"tracestate", b"baggage"))


def trace_of_http(tracing: Tracing, headers: Headers) -> tuple[TraceContext | None, Headers]:
    """The context, and the headers that carry it on. Raises `BAD_BAGGAGE`."""
    parent: bytes | None = None
    parents = 0
    states: list[bytes] = []
    for name, value in headers:
        if name not in _NAMES:  # one look-up in place of three comparisons: 0.1 µs a request
            continue
        if name == b"traceparent":
            parent = value
            parents += 1
        elif name == b"tracestate":
            states.append(value)
        elif name == b"baggage":
            _check_baggage(value)
    state = b",".join(states) if states else None
    context = tracing.from_http(parent if parents == 1 else None, state)
    return context, _headers(context, parent, state)


def trace_of_grpc(tracing: Tracing, metadata: Metadata) -> tuple[TraceContext | None, Headers]:
    """The context, and the headers that carry it on. Raises `BAD_BAGGAGE`."""
    binary: bytes | None = None
    parent: bytes | None = None
    state: bytes | None = None
    for key, value in metadata:
        if isinstance(value, bytes):
            if key == "grpc-trace-bin":
                binary = value
        elif key == "traceparent":
            parent = value.encode()
        elif key == "tracestate":
            state = value.encode()
        elif key == "baggage":
            _check_baggage(value.encode())
    context = tracing.from_grpc(binary, parent, state)
    return context, _headers(context, parent, state)


def _headers(context: TraceContext | None, parent: bytes | None, state: bytes | None) -> Headers:
    if context is None:  # tracing is off: what came goes on untouched
        return [(name, value) for name, value in ((b"traceparent", parent), (b"tracestate", state)) if value]
    if context.tracestate:
        return [(b"traceparent", context.traceparent), (b"tracestate", context.tracestate)]
    return [(b"traceparent", context.traceparent)]


def _check_baggage(value: bytes) -> None:
    problem = baggage_problem(value)
    if problem is not None:
        raise errors.BAD_BAGGAGE(detail=problem)
