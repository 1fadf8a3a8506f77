"""The OpenTelemetry Collector as a process: the program beside this, built from the collector's own modules."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.instance import free_ports
from tests.support.required import need, need_command

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAM = Path(__file__).parent / "otel-collector"
_BUILD_PATIENCE = 1800.0
"""Seconds: the first build on a machine fetches some hundred packages and compiles them."""
_PATIENCE = 30.0
_KINDS = {2: "server", 3: "client"}


@dataclass
class OtelCollector:
    """A running one, seen from a test; each is `host:port`."""

    grpc: str
    http: str
    zipkin: str
    _file: Path

    def spans(self) -> list[dict[str, Any]]:
        """What it has written so far; a line that is being written is left for the next time."""
        text = self._file.read_text() if self._file.exists() else ""
        return [span for line in text.splitlines(keepends=True) if line.endswith("\n") for span in _spans(line)]

    def wait_for(self, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
        """Wait for so many spans that have these fields."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            found = [span for span in self.spans() if fields.items() <= span.items()]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, f"not {count} spans {fields} among {self.spans()}"
            time.sleep(0.05)


def build(made: Path) -> Path:
    """Build the program, with the pinned modules of go.mod and go.sum."""
    done = subprocess.run(
        [need_command("go", "golang"), "build", "-mod=readonly", "-o", str(made), "."],
        cwd=_PROGRAM,
        env={**os.environ, "CGO_ENABLED": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_BUILD_PATIENCE,
        check=False,
    )
    need(done.returncode == 0, f"the Go modules of the OpenTelemetry Collector:\n{done.stdout}\n{done.stderr}")
    return made


@contextlib.contextmanager
def otel_collector(program: Path, folder: Path) -> Iterator[OtelCollector]:
    """Run one on free ports of loopback; ended by its id."""
    folder.mkdir(parents=True, exist_ok=True)
    grpc, http, zipkin = (f"127.0.0.1:{port}" for port in free_ports(3))
    file, log = folder / "spans.jsonl", folder / "collector.log"
    protocols = {"grpc": {"endpoint": grpc}, "http": {"endpoint": http}}
    receivers = {"otlp": {"protocols": protocols}, "zipkin": {"endpoint": zipkin}}
    service = {
        "telemetry": {"metrics": {"level": "none"}},
        "pipelines": {"traces": {"receivers": [*receivers], "exporters": ["file"]}},
    }
    exporters = {"file": {"path": str(file), "flush_interval": "50ms"}}
    settings = folder / "collector.yaml"  # JSON is YAML
    settings.write_text(json.dumps({"receivers": receivers, "exporters": exporters, "service": service}))
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(program), "--config", f"file:{settings}"], stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + _PATIENCE
            while "Everything is ready" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield OtelCollector(grpc, http, zipkin, file)
        finally:
            process.kill()
            process.wait()


def _spans(line: str) -> Iterator[dict[str, Any]]:
    for of_resource in json.loads(line).get("resourceSpans", ()):
        resource = _pairs(of_resource.get("resource", {}))
        for of_scope in of_resource.get("scopeSpans", ()):
            for span in of_scope.get("spans", ()):
                yield {
                    "service": resource.get("service.name", ""),
                    "scope": of_scope.get("scope", {}).get("name", ""),
                    "name": span["name"],
                    "kind": _KINDS.get(span.get("kind"), str(span.get("kind"))),
                    "trace_id": span["traceId"],
                    "span_id": span["spanId"],
                    "parent_id": span.get("parentSpanId", ""),
                    "attributes": _pairs(span),
                    "status": span.get("status", {}),
                }


def _pairs(of: dict[str, Any]) -> dict[str, Any]:
    return {pair["key"]: next(iter(pair["value"].values()), "") for pair in of.get("attributes", ())}
