"""Tracing of all apps: their Configurations and the environment become samplers and exporters.

Assembly. Apps whose Configurations name the same collector share one exporter. Facts: reference resources §4, and
daprd-flags §3 for the variables `OTEL_…`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from dapr_shared.core.durations import parse_go_duration
from dapr_shared.observability.span_export import ExportTarget, SpanExporter
from dapr_shared.observability.spans import AppTracing, SpanTable
from dapr_shared.observability.tracing import DEFAULT_SAMPLING_RATE, Tracing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.caller import RegisteredApp
    from dapr_shared.observability.events import Events
    from dapr_shared.observability.spans import SpanRecord, SpanSink
    from dapr_shared.resources.model import Configuration

_OTLP = "OTEL_EXPORTER_OTLP_"
_CLOSE_SECONDS = 2.0
"""For an exporter that a reload leaves without an app."""


class TracingConfigurationError(Exception):
    """A `tracing` that cannot be followed; the message names the field."""


@dataclass(frozen=True, slots=True)
class TracingPlan:
    """What one Configuration, with the environment, wants."""

    rate: float
    stdout: bool = False
    targets: tuple[ExportTarget, ...] = ()


class StdoutSpans:
    """Writes spans to the log."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def put(self, span: SpanRecord) -> None:
        """Write one."""
        self._events.span(span)


class TracingOfApps:
    """Keeps the span table and the exporters behind it."""

    def __init__(self, configuration: Configuration | None, environment: Mapping[str, str], events: Events) -> None:
        """Raises `TracingConfigurationError`."""
        self.table = SpanTable()
        self._events = events
        self._environment = environment
        self._default = plan_of(configuration, environment)
        self.tracing = Tracing(self._default.rate)
        """What the front doors sample with until they know the app."""
        self._stdout = StdoutSpans(events)
        self._exporters: dict[ExportTarget, SpanExporter] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def plan(self, records: Iterable[RegisteredApp]) -> dict[AppRef, tuple[str, TracingPlan]]:
        """What the apps want. Raises `TracingConfigurationError`; nothing has changed."""
        records = list(records)
        name = self._environment.get("OTEL_SERVICE_NAME", "")
        plans: dict[AppRef, tuple[str, TracingPlan]] = {}
        for record in records:
            service = name if name and len(records) == 1 else record.ref.app_id
            try:
                plans[record.ref] = (service, plan_of(record.configuration, self._environment))
            except TracingConfigurationError as error:
                where = record.configuration.origin if record.configuration else "(environment)"
                raise TracingConfigurationError(f"{where}: spec.{error}") from error
        return plans

    def adopt(self, plans: Mapping[AppRef, tuple[str, TracingPlan]]) -> None:
        """Trace these apps so from now on; exporters that no app needs any more send what they have and end."""
        wanted = {target for _, plan in plans.values() for target in plan.targets}
        for target in wanted - self._exporters.keys():
            self._exporters[target] = SpanExporter(target, self._events.spans_dropped)
        rates = {plan.rate for _, plan in plans.values()} - {self.tracing.rate}
        by_rate = {self.tracing.rate: self.tracing, **{rate: Tracing(rate) for rate in rates}}
        apps = {
            ref: AppTracing(service, by_rate[plan.rate], self._sinks(plan)) for ref, (service, plan) in plans.items()
        }
        self.table.replace(apps, self.tracing)
        for target in self._exporters.keys() - wanted:
            task = asyncio.get_running_loop().create_task(
                self._exporters.pop(target).close(_CLOSE_SECONDS), name="end of an exporter"
            )
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self, seconds: float) -> None:
        """Send what waits, for at most `seconds`."""
        exporters = [*self._exporters.values()]
        self._exporters.clear()
        await asyncio.gather(*(exporter.close(seconds) for exporter in exporters), *self._closing)

    def _sinks(self, plan: TracingPlan) -> Sequence[SpanSink]:
        exporters: list[SpanSink] = [self._exporters[target] for target in plan.targets]
        return [self._stdout, *exporters] if plan.stdout else exporters


def plan_of(configuration: Configuration | None, environment: Mapping[str, str]) -> TracingPlan:
    """What a Configuration wants of tracing. Raises `TracingConfigurationError`."""
    tracing = configuration.tracing if configuration else None
    spec: dict[str, Any] = (configuration.spec.get("tracing") or {}) if configuration else {}
    otel = dict(tracing.otel) if tracing else {}
    rate = tracing.sampling_rate if tracing else DEFAULT_SAMPLING_RATE
    if not otel.get("endpointAddress") and (given := _otel_of_environment(environment)):
        otel = {**otel, **given}
        if not spec.get("samplingRate"):
            rate = 1.0  # an endpoint in the environment turns tracing on (daprd-flags §3)
    targets: list[ExportTarget] = []
    if tracing and tracing.zipkin_endpoint:
        parts = urlsplit(tracing.zipkin_endpoint)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise TracingConfigurationError(
                "tracing.zipkin.endpointAddress is not a URL such as http://host:9411/api/v2/spans"
            )
        targets.append(ExportTarget("zipkin", tracing.zipkin_endpoint))
    if otel.get("endpointAddress") and otel.get("protocol"):  # without a protocol nothing is exported, as in daprd
        targets.append(_otlp(otel))
    return TracingPlan(rate, stdout=bool(tracing and tracing.stdout), targets=tuple(targets) if rate else ())


def _otlp(otel: Mapping[str, Any]) -> ExportTarget:
    protocol = str(otel["protocol"])
    if protocol not in ("http", "grpc"):
        raise TracingConfigurationError(f"tracing.otel.protocol {protocol[:40]!r} is not one of http, grpc")
    secure = otel.get("isSecure")
    return ExportTarget(
        "otlp-http" if protocol == "http" else "otlp-grpc",
        str(otel["endpointAddress"]),
        secure=secure is None or str(secure).lower() != "false",
        headers=_headers(otel.get("headers")),
        timeout=_timeout(otel.get("timeout")),
    )


def _headers(given: object) -> tuple[tuple[str, str], ...]:
    """`name=value` each, as in a file, or `{name, value}` as in a cluster. A wrong one is not shown: it may be a key."""
    if given is None:
        return ()
    found: list[tuple[str, str]] = []
    for entry in cast("list[object]", given if isinstance(given, list) else [given]):
        if isinstance(entry, dict):
            pair = cast("dict[str, object]", entry)
            name, value = str(pair.get("name") or ""), str(pair.get("value") or "")
        else:
            name, given_value, value = str(entry).partition("=")
            name = name if given_value else ""
        if not name.strip() or not name.isascii() or not value.isprintable():
            raise TracingConfigurationError("tracing.otel.headers holds an entry that is not name=value")
        found.append((name.strip(), value.strip()))
    return tuple(found)


def _timeout(given: object) -> float:
    """A Go duration; a bare number is nanoseconds, as Go's own reader has it."""
    if given is None or given == "":
        return 10.0
    try:
        seconds = float(given) / 1e9 if isinstance(given, int | float) else parse_go_duration(str(given))
    except ValueError as error:
        raise TracingConfigurationError(f"tracing.otel.timeout: {error}") from error
    if seconds <= 0:
        raise TracingConfigurationError("tracing.otel.timeout is not above zero")
    return seconds


def _otel_of_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The variables as daprd reads them: those of traces before those of everything."""

    def of(name: str) -> str:
        return environment.get(f"{_OTLP}TRACES_{name}") or environment.get(f"{_OTLP}{name}") or ""

    endpoint = of("ENDPOINT").removeprefix("http://").removeprefix("https://")
    if not endpoint:
        return {}
    found: dict[str, Any] = {
        "endpointAddress": endpoint.rstrip("/"),
        "protocol": "http" if of("PROTOCOL").startswith("http") else "grpc",
    }
    if environment.get(f"{_OTLP}INSECURE") == "true":
        found["isSecure"] = False
    if of("HEADERS"):
        found["headers"] = [part for part in of("HEADERS").split(",") if part.strip()]
    if of("TIMEOUT"):
        if not of("TIMEOUT").isascii() or not of("TIMEOUT").isdigit():
            raise TracingConfigurationError("OTEL_EXPORTER_OTLP_TIMEOUT is not a number of milliseconds")
        found["timeout"] = f"{of('TIMEOUT')}ms"
    return found
