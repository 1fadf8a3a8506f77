"""Spans of sampled requests and deliveries: what they say, and to whom they go.

Beside both roads. A span exists only where its trace is sampled and its app's Configuration names somebody to export to;
everything else costs one look at `SpanTable.active`. Names, kinds and attributes are Dapr's (reference behaviours §7).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dapr_shared.core.ids import AppRef
    from dapr_shared.observability.tracing import TraceContext, Tracing

SpanKind = Literal["client", "server", "producer"]
"""`client`: an app's call of the API, and a delivery to an app; `server`: a call by another app, as its callee sees it;
`producer`: one event of a bulk publish."""

_SAMPLED = b"13579bdf"
_NEVER = b"dapr-api-token"
_LONGEST_VALUE = 4096
"""Characters of an attribute's value; a caller can send headers of any length."""


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """One span that has ended."""

    service: str
    """`service.name`: the app id."""
    name: str
    kind: SpanKind
    trace_id: str
    span_id: str
    parent_id: str
    """Empty: it began the trace."""
    tracestate: str
    start: int
    """Nanoseconds since 1970."""
    end: int
    attributes: Mapping[str, str]
    error: str | None
    """What went wrong; `None`: nothing."""


class SpanSink(Protocol):
    """Takes spans; never blocks, never raises."""

    def put(self, span: SpanRecord) -> None:
        """Take one, or count it as dropped."""
        ...


class Span:
    """A span that has begun."""

    __slots__ = ("_children", "_kind", "_parent", "_started", "_tracing", "attributes", "context", "name", "service")

    def __init__(
        self, tracing: AppTracing, context: TraceContext, parent: str, name: str, kind: SpanKind, started: int
    ) -> None:
        self.service = tracing.service
        self.context = context
        """With the id of this span: what is passed on."""
        self.name = name
        self.attributes: dict[str, str] = {}
        self._tracing = tracing
        self._children: list[Span] = []
        self._parent = parent
        self._kind: SpanKind = kind
        self._started = started

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The trace headers for what is called from here."""
        headers = [(b"traceparent", self.context.traceparent)]
        if self.context.tracestate:
            headers.append((b"tracestate", self.context.tracestate))
        return headers

    def producer(self, name: str) -> Span:
        """A span below this one, for an event of a bulk publish; it ends with this one, and as this one."""
        context = self._tracing.tracing.child(self.context)
        made = Span(self._tracing, context, self.context.span_id, name, "producer", time.time_ns())
        self._children.append(made)
        return made

    def copy_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Take request headers that begin with `dapr-` as attributes, but never a token (behaviours §7)."""
        for name, value in headers:
            if name.startswith(b"dapr-") and name != _NEVER and not name.endswith(b"-bin"):
                self.attributes[name.decode("latin-1")] = value.decode("latin-1")[:_LONGEST_VALUE]

    def end(self, error: str | None = None) -> None:
        """End it; `error` says what went wrong."""
        record = SpanRecord(
            self.service, self.name, self._kind, self.context.trace_id, self.context.span_id, self._parent,
            self.context.tracestate.decode("latin-1"), self._started, time.time_ns(), self.attributes, error,
        )  # fmt: skip
        for sink in self._tracing.sinks:
            sink.put(record)
        for child in self._children:
            child.end(error)

    def end_with_status(self, status: int) -> None:
        """End it with an HTTP status: from 400 on it is an error (OpenTelemetry's rule, with Dapr's words)."""
        self.end(f"Code({status}): {_phrase(status)}" if status >= 400 else None)


@dataclass(frozen=True, slots=True)
class AppTracing:
    """How the traces of one app are made and where they go."""

    service: str
    tracing: Tracing
    sinks: Sequence[SpanSink] = ()

    def begin(self, context: TraceContext | None, name: str, kind: SpanKind, *, ago: float = 0.0) -> Span | None:
        """The span of a request with this context; `None` where nobody wants it. `ago`: seconds since it began."""
        if context is None or not context.sampled or not self.sinks:
            return None
        started = time.time_ns() - int(ago * 1e9)
        if context.remote:
            return Span(self, self.tracing.child(context), context.span_id, name, kind, started)
        return Span(self, context, "", name, kind, started)


class SpanTable:
    """The tracing of all apps. Replaced as a whole on reload."""

    __slots__ = ("_apps", "active")

    def __init__(self) -> None:
        self._apps: Mapping[AppRef, AppTracing] = {}
        self.active = False
        """Whether any app's traces are exported, or sampled otherwise than the instance's."""

    def replace(self, apps: Mapping[AppRef, AppTracing], default: Tracing) -> None:
        """Trace these apps so from now on; `default` is what the front doors do where nothing else is said."""
        self._apps = apps
        self.active = any(app.sinks or app.tracing is not default for app in apps.values())

    def of(self, app: AppRef) -> AppTracing | None:
        """How an app is traced."""
        return self._apps.get(app)

    def begin_call(self, app: AppRef, name: str, kind: SpanKind, headers: Iterable[tuple[bytes, bytes]]) -> Span | None:
        """The span of a call of an app, whose trace is in these headers; `None` where it is not sampled or wanted."""
        if not self.active:
            return None
        parent = state = None
        for key, value in headers:
            if key == b"traceparent":
                parent = value
            elif key == b"tracestate":
                state = value
        if parent is None or parent[-1] not in _SAMPLED:
            return None
        traced = self._apps.get(app)
        if traced is None or not traced.sinks:
            return None
        context = traced.tracing.from_http(parent, state)
        return traced.begin(context, name, kind) if context is not None and context.remote else None

    def begin_event(self, app: AppRef, name: str, parent: bytes | None, state: bytes | None) -> Span | None:
        """The span of an event's delivery to an app; without a valid `parent` it begins a trace, at the app's own rate."""
        traced = self._apps.get(app) if self.active else None
        if traced is None or not traced.sinks:
            return None
        return traced.begin(traced.tracing.from_http(parent, state), name, "client")


def _phrase(status: int) -> str:
    from http import HTTPStatus  # noqa: PLC0415 - for errors of sampled requests alone

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
