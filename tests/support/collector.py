"""A collector of spans as a process of its own: OTLP over gRPC and HTTP, and Zipkin's JSON.

Small and quick to start, on OpenTelemetry's own messages (`opentelemetry-proto`); the Collector itself is `otel_collector`.
`python -m tests.support.collector OTLP_GRPC_PORT HTTP_PORT` prints one JSON line for each span that it is sent.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 15.0


@dataclass
class Collector:
    """A running collector, seen from a test."""

    grpc: str
    http: str
    _file: Path

    def spans(self) -> list[dict[str, Any]]:
        """What it was sent so far."""
        return [json.loads(line) for line in self._file.read_text().splitlines() if line.startswith("{")]

    def wait_for(self, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
        """Wait for so many spans that have these fields."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            found = [span for span in self.spans() if fields.items() <= span.items()]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, f"not {count} spans {fields} among {self.spans()}"
            time.sleep(0.02)


@contextlib.contextmanager
def collector(folder: Path, *, ports: tuple[int, int]) -> Iterator[Collector]:
    """Run one; ended by its id."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "spans.jsonl"
    with file.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.collector", *map(str, ports)],
            stdout=out,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        )
        try:
            deadline = time.monotonic() + _PATIENCE
            while "ready" not in file.read_text():
                assert process.poll() is None, "the collector ended"
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield Collector(f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}", file)
        finally:
            process.kill()
            process.wait()


_lock = threading.Lock()


def _tell(**span: Any) -> None:
    with _lock:
        sys.stdout.write(json.dumps(span) + "\n")
        sys.stdout.flush()


def _otlp(protocol: str, body: bytes, headers: dict[str, str]) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

    for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                _tell(
                    protocol=protocol,
                    service=resource.get("service.name", ""),
                    resource=resource,
                    scope=of_scope.scope.name,
                    name=span.name,
                    kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    tracestate=span.trace_state,
                    attributes={pair.key: pair.value.string_value for pair in span.attributes},
                    status=Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_").lower(),
                    message=span.status.message,
                    nanoseconds=span.end_time_unix_nano - span.start_time_unix_nano,
                    headers=headers,
                )


class _Http(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        if self.path == "/v1/traces":
            _otlp("otlp-http", body, headers)
            self.send_response(200)
        elif self.path == "/api/v2/spans":
            for span in json.loads(body):
                _tell(
                    protocol="zipkin",
                    service=span.get("localEndpoint", {}).get("serviceName", ""),
                    name=span["name"],
                    kind=span.get("kind", "").lower(),
                    trace_id=span["traceId"],
                    span_id=span["id"],
                    parent_id=span.get("parentId", ""),
                    attributes=span.get("tags", {}),
                )
            self.send_response(202)
        else:
            self.send_response(404)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Nothing."""


def main(grpc_port: int, http_port: int) -> None:
    """Serve until killed."""
    import grpc

    def export(body: bytes, context: Any) -> bytes:
        _otlp("otlp-grpc", body, {key: str(value) for key, value in context.invocation_metadata()})
        return b""

    handler = grpc.method_handlers_generic_handler(
        "opentelemetry.proto.collector.trace.v1.TraceService", {"Export": grpc.unary_unary_rpc_method_handler(export)}
    )
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
    assert server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    server.start()
    http = ThreadingHTTPServer(("127.0.0.1", http_port), _Http)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    http.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
