"""Export of spans: one thread and one bounded queue for each place that they go to.

Beside both roads. Requests only append to a queue; the thread imports OpenTelemetry when the first span comes, makes
batches of it and waits for the collector. A collector that is slow or away costs spans, which are counted, and nothing
else. (OpenTelemetry's batch processor drops without telling how many, and its flush has no time limit: decision 0015.)
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dapr_shared.observability.spans import SpanRecord

QUEUE: Final = 2048
"""Spans that wait; further ones are dropped."""
BATCH: Final = 512
"""Spans of one export."""
DELAY: Final = 0.5
"""Seconds that a span may wait for others."""

Dropped: TypeAlias = "Callable[[str, str, int, str], None]"
"""Called in the event loop with the place, the reason (`queue_full`, `export`, `shutdown`, `missing`), how many, and the
problem in words."""


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """Where spans go."""

    kind: Literal["otlp-grpc", "otlp-http", "zipkin"]
    endpoint: str
    """`host:port` for OTLP; a URL for Zipkin."""
    secure: bool = True
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout: float = 10.0
    """Seconds for one export with its retries."""

    def __str__(self) -> str:
        """For logs and metrics: without what a URL may hold beside its host."""
        place = self.endpoint if "://" not in self.endpoint else urlsplit(self.endpoint).netloc.rpartition("@")[2]
        return f"{self.kind} {place}"


class SpanExporter:
    """Sends spans to one target."""

    def __init__(self, target: ExportTarget, on_dropped: Dropped) -> None:
        """Nothing is imported or opened before the first span."""
        self.target = target
        self._on_dropped = on_dropped
        self._loop = asyncio.get_running_loop()
        self._queue: deque[SpanRecord] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._full = threading.Event()
        self._thread: threading.Thread | None = None
        self._library: Any = None

    def put(self, span: SpanRecord) -> None:
        """Take a span; drop it where the queue is full."""
        if len(self._queue) >= QUEUE or self._closing.is_set():
            reason = "shutdown" if self._closing.is_set() else "queue_full"
            self._on_dropped(str(self.target), reason, 1, "")
            return
        self._queue.append(span)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="spans", daemon=True)
            self._thread.start()
        self._wake.set()
        if len(self._queue) >= BATCH:
            self._full.set()

    async def close(self, seconds: float) -> None:
        """Send what waits, for at most `seconds`; count what could not be sent."""
        self._closing.set()
        self._full.set()
        self._wake.set()
        thread = self._thread
        if thread is None:
            return
        ended = asyncio.Event()

        def wait() -> None:
            thread.join(seconds)
            self._loop.call_soon_threadsafe(ended.set)

        # A thread of its own: the loop's shared ones may all be busy while the process ends.
        threading.Thread(target=wait, name="spans end", daemon=True).start()
        await ended.wait()
        left = len(self._queue)
        self._queue.clear()
        if left:
            self._on_dropped(str(self.target), "shutdown", left, "the collector did not take them in time")

    # In the thread ---------------------------------------------------------------------------------------------------
    def _work(self) -> None:
        while True:
            self._wake.wait()
            self._full.wait(DELAY)
            self._full.clear()
            self._wake.clear()
            while self._queue:
                self._export([self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))])
            if self._closing.is_set():
                if self._library is not None:
                    self._library.close()
                return

    def _export(self, batch: Sequence[SpanRecord]) -> None:
        try:
            if self._library is None:
                self._library = _Library(self.target)
            problem = self._library.export(batch)
        except ImportError as error:
            self._tell("missing", len(batch), f"install dapr-shared[tracing] ({error})")
            return
        except Exception as error:  # noqa: BLE001 - whatever a client library raises costs this batch and nothing else
            problem = f"{type(error).__name__}"
        if problem:
            self._tell("export", len(batch), problem)

    def _tell(self, reason: str, count: int, problem: str) -> None:
        try:
            self._loop.call_soon_threadsafe(self._on_dropped, str(self.target), reason, count, problem)
        except RuntimeError:  # the loop has ended: nobody listens
            return


class _Library:
    """OpenTelemetry, imported in the thread that needs it."""

    def __init__(self, target: ExportTarget) -> None:
        import opentelemetry.sdk.resources as resources  # noqa: PLC0415, PLR0402 - this is the point
        import opentelemetry.sdk.trace as sdk  # noqa: PLC0415
        import opentelemetry.trace as api  # noqa: PLC0415
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415

        # What it would say of a collector that is away, `export` tells; its lines may hold more than ours.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._api, self._sdk, self._resources = api, sdk, resources
        self._scope = InstrumentationScope("dapr-diagnostics")
        self._of_service: dict[str, Any] = {}
        self._per_service = target.kind == "zipkin"
        self._exporter: Any = _exporter(target)

    def export(self, batch: Sequence[SpanRecord]) -> str:
        """Send a batch; what went wrong, or nothing."""
        groups = [list(batch)]
        if self._per_service:  # Zipkin's exporter takes the service of a batch's first span for all of it
            by_service: dict[str, list[SpanRecord]] = {}
            for span in batch:
                by_service.setdefault(span.service, []).append(span)
            groups = list(by_service.values())
        failed = 0
        for group in groups:
            result = self._exporter.export([self._span(span) for span in group])
            failed += len(group) * (result.name != "SUCCESS")
        return f"the collector took {len(batch) - failed} of {len(batch)} spans" if failed else ""

    def close(self) -> None:
        """Let go of connections."""
        self._exporter.shutdown()

    def _span(self, span: SpanRecord) -> Any:
        api = self._api
        state = api.TraceState.from_header([span.tracestate]) if span.tracestate else api.TraceState()
        trace_id, flags = int(span.trace_id, 16), api.TraceFlags(api.TraceFlags.SAMPLED)
        parent = None
        if span.parent_id:
            parent = api.SpanContext(trace_id, int(span.parent_id, 16), is_remote=True, trace_flags=flags)
        status = api.Status(api.StatusCode.ERROR, span.error) if span.error is not None else api.Status()
        return self._sdk.ReadableSpan(
            name=span.name,
            context=api.SpanContext(trace_id, int(span.span_id, 16), False, flags, state),  # noqa: FBT003 - its order
            parent=parent,
            resource=self._resource(span.service),
            attributes=span.attributes,
            kind=api.SpanKind[span.kind.upper()],
            status=status,
            start_time=span.start,
            end_time=span.end,
            instrumentation_scope=self._scope,
        )

    def _resource(self, service: str) -> Any:
        found = self._of_service.get(service)
        if found is None:
            made = self._resources
            found = made.OTELResourceDetector().detect().merge(made.Resource({"service.name": service}))
            self._of_service[service] = found
        return found


def _exporter(target: ExportTarget) -> Any:
    if target.kind == "zipkin":
        from opentelemetry.exporter.zipkin.json import ZipkinExporter  # noqa: PLC0415

        return ZipkinExporter(endpoint=target.endpoint, timeout=max(1, round(target.timeout)))
    if target.kind == "otlp-http":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter as HttpExporter,
        )

        scheme = "https" if target.secure else "http"
        return HttpExporter(
            endpoint=f"{scheme}://{target.endpoint}/v1/traces", headers=dict(target.headers), timeout=target.timeout
        )
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter as GrpcExporter,
    )

    return GrpcExporter(
        endpoint=target.endpoint,
        insecure=not target.secure,
        headers=tuple((name.lower(), value) for name, value in target.headers),
        timeout=target.timeout,
    )
