"""The queue and the thread before a collector: bounds, counts, ends, and an absent package."""

from __future__ import annotations

import asyncio
import threading

import pytest

from dapr_shared.observability import span_export
from dapr_shared.observability.span_export import QUEUE, ExportTarget, SpanExporter
from dapr_shared.observability.spans import SpanRecord

SPAN = SpanRecord("shop", "x", "client", "0" * 31 + "1", "0" * 15 + "1", "", "", 1, 2, {}, None)
TARGET = ExportTarget("otlp-grpc", "collector:4317", headers=(("key", "secret"),))


class Library:
    """In OpenTelemetry's place."""

    def __init__(self, _target=None):
        self.taken = 0
        self.go = threading.Event()
        self.go.set()
        self.busy = threading.Event()
        self.closed = False
        self.problem = ""

    def export(self, batch):
        self.busy.set()
        self.go.wait(10)
        self.taken += len(batch)
        return self.problem

    def close(self):
        self.closed = True


@pytest.fixture
def library(monkeypatch):
    made = Library()
    monkeypatch.setattr(span_export, "_Library", lambda _target: made)
    yield made
    made.go.set()


@pytest.fixture
async def exporter(library):
    dropped = []
    made = SpanExporter(TARGET, lambda *what: dropped.append(what))
    made.dropped = dropped
    yield made
    library.go.set()
    await made.close(5)


async def test_what_waits_is_sent_before_the_end(exporter, library):
    """Closing sends the rest, lets go of the library, and counts nothing."""
    for _ in range(1000):
        exporter.put(SPAN)
    await exporter.close(5)
    assert library.taken == 1000
    assert library.closed
    assert exporter.dropped == []
    exporter.put(SPAN)
    assert [(reason, count) for _, reason, count, _ in exporter.dropped] == [("shutdown", 1)]


async def test_the_queue_is_bounded(exporter, library):
    """While the collector takes nothing, what is beyond the bound is dropped and counted; nothing waits for it."""
    library.go.clear()
    exporter.put(SPAN)
    await asyncio.to_thread(library.busy.wait, 10)
    for _ in range(QUEUE + 7):
        exporter.put(SPAN)
    assert [(reason, count) for _, reason, count, _ in exporter.dropped] == [("queue_full", 1)] * 7
    await exporter.close(0.05)
    assert exporter.dropped[-1][1:3] == ("shutdown", QUEUE)


async def test_a_failure_is_told_with_its_number(exporter, library):
    """Spans that the collector refuses are counted, with the problem and without the headers."""
    library.problem = "refused"
    exporter.put(SPAN)
    await exporter.close(5)
    await asyncio.sleep(0)
    assert exporter.dropped == [("otlp-grpc collector:4317", "export", 1, "refused")]
    assert "secret" not in repr(TARGET)


async def test_an_absent_package_is_named(monkeypatch):
    """Without OpenTelemetry the spans are dropped, and the words say what to install."""

    def absent(_target):
        raise ImportError("No module named 'opentelemetry'")

    monkeypatch.setattr(span_export, "_Library", absent)
    dropped = []
    exporter = SpanExporter(TARGET, lambda *what: dropped.append(what))
    exporter.put(SPAN)
    await exporter.close(5)
    await asyncio.sleep(0)
    ((_, reason, count, problem),) = dropped
    assert (reason, count) == ("missing", 1)
    assert "dapr-shared[tracing]" in problem


async def test_an_exporter_without_spans_has_no_thread(library):
    """Nothing is imported and no thread runs before the first span."""
    before = threading.active_count()
    exporter = SpanExporter(TARGET, lambda *_: None)
    await exporter.close(5)
    assert threading.active_count() == before
    assert library.taken == 0


def test_a_target_hides_what_a_url_may_hold():
    """The name of a target in logs and metrics is its kind and host."""
    assert str(ExportTarget("zipkin", "https://user:secret@zipkin:9411/api?key=secret")) == "zipkin zipkin:9411"
