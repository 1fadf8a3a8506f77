"""Spans: who wants one, what they say, where they go, and what it costs where nobody does."""

from __future__ import annotations

import time

import pytest

from dapr_shared.core.ids import AppRef
from dapr_shared.observability.spans import AppTracing, SpanTable
from dapr_shared.observability.tracing import Tracing

SHOP = AppRef("shop")
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01".encode(), f"00-{TRACE}-{PARENT}-00".encode()


class Sink:
    def __init__(self):
        self.got = []

    def put(self, span):
        self.got.append(span)


@pytest.fixture
def sink():
    return Sink()


@pytest.fixture
def table(sink):
    made, tracing = SpanTable(), Tracing(1)
    made.replace({SHOP: AppTracing("shop", tracing, [sink])}, tracing)
    return made


def test_a_span_with_a_parent(table, sink):
    """It has the parent's trace and an id of its own, which goes on; it ends with its service, name and times."""
    before = time.time_ns()
    span = table.begin_call(SHOP, "pubsub/teas", "client", [(b"traceparent", SAMPLED), (b"tracestate", b"a=b")])
    headers = dict(span.headers())
    span.attributes["a"] = "b"
    span.end()
    (record,) = sink.got
    assert headers == {b"traceparent": f"00-{TRACE}-{record.span_id}-01".encode(), b"tracestate": b"a=b"}
    assert (record.service, record.name, record.kind) == ("shop", "pubsub/teas", "client")
    assert (record.trace_id, record.parent_id, record.tracestate) == (TRACE, PARENT, "a=b")
    assert record.span_id != PARENT
    assert before <= record.start <= record.end <= time.time_ns()
    assert (record.attributes, record.error) == ({"a": "b"}, None)


def test_a_new_trace_has_no_parent(table, sink):
    """A trace that begins here has the context's own id, and no parent; `ago` is when it began."""
    traced = table.of(SHOP)
    context = traced.tracing.new_trace()
    traced.begin(context, "x", "client", ago=2.0).end("broken")
    (record,) = sink.got
    assert (record.span_id, record.parent_id, record.error) == (context.span_id, "", "broken")
    assert 1.9e9 < record.end - record.start < 10e9


@pytest.mark.parametrize(
    ("app", "headers"),
    [
        (SHOP, []),
        (SHOP, [(b"traceparent", UNSAMPLED)]),
        (SHOP, [(b"traceparent", b"1")]),
        (AppRef("other"), [(b"traceparent", SAMPLED)]),
    ],
)
def test_where_there_is_none(table, app, headers):
    """No trace, an unsampled one, and an app without exporters have no span."""
    assert table.begin_call(app, "x", "client", headers) is None


def test_tokens_are_no_attributes(table, sink):
    """Headers that begin with `dapr-` are attributes, but the token, binary ones and what is too long are not."""
    span = table.begin_call(SHOP, "x", "client", [(b"traceparent", SAMPLED)])
    span.copy_headers(
        [
            (b"dapr-api-token", b"secret"),
            (b"dapr-x", b"1"),
            (b"dapr-y-bin", b"\x00"),
            (b"x", b"2"),
            (b"dapr-z", b"z" * 9999),
        ]
    )
    span.end_with_status(404)
    (record,) = sink.got
    assert record.attributes == {"dapr-x": "1", "dapr-z": "z" * 4096}
    assert record.error == "Code(404): Not Found"


@pytest.mark.parametrize(
    ("status", "error"),
    [(200, None), (302, None), (399, None), (400, "Code(400): Bad Request"), (799, "Code(799): Unknown")],
)
def test_the_status_of_a_span(table, sink, status, error):
    """From 400 on a status is an error, with Dapr's words."""
    table.begin_call(SHOP, "x", "client", [(b"traceparent", SAMPLED)]).end_with_status(status)
    assert sink.got[0].error == error


def test_the_table_is_idle_where_nobody_exports(table):
    """Without exporters and rates of their own there is nothing to ask; hot code looks at one attribute."""
    tracing = Tracing()
    idle = SpanTable()
    assert not idle.active
    idle.replace({SHOP: AppTracing("shop", tracing)}, tracing)
    assert not idle.active
    idle.replace({SHOP: AppTracing("shop", Tracing(0))}, tracing)
    assert idle.active
    assert table.active


def test_an_unsampled_request_pays_next_to_nothing(table):
    """The decision and the look at the table take about half a microsecond, measured generously here."""
    tracing = Tracing()
    count = 20_000
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(count):
            context = tracing.from_http(UNSAMPLED)
            if table.active:
                table.of(SHOP).begin(context, "x", "client")
        best = min(best, (time.perf_counter() - started) / count)
    assert best < 10e-6, f"{best * 1e6:.2f} µs"
