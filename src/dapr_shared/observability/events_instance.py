"""Events of the instance itself: its start and end, its listeners, its spans.

Beside both roads. A part of `Events`; what every event keeps to stands there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.observability.events_base import EventsBase, given, repeats

if TYPE_CHECKING:
    from dapr_shared.observability.spans import SpanRecord

_FEW_DAYS = 7.0
_TLS_TROUBLES = {
    "plain_text": "a client spoke plain HTTP to a TLS port: it should use https://",
    "tls": "a client spoke TLS to a port without TLS: it should use http://, or give this instance --tls-cert",
    "client_certificate": "a client certificate was refused",
}


class InstanceEvents(EventsBase):
    """See `Events`."""

    def starting(self, version: str, mode: str, apps: int) -> None:
        """The process has read its settings and starts; `apps` is how many it knows."""
        self.metrics.ready.child().set(0)
        self._runtime.info("starting", version=version, mode=mode, apps=apps)

    def listening(self, listener: str, protocol: str, address: str) -> None:
        """A listener accepts connections; `listener` names it: `public`, `api` or the app that it belongs to."""
        self.metrics.connections.child(listener, protocol).set(0)
        self._runtime.info("listening", listener=listener, protocol=protocol, address=address)

    def listener_failed(self, problem: str) -> None:
        """One of several addresses could not be bound; the others are served."""
        self.metrics.listener_failures.child().inc()
        self._runtime.warning("listener not opened", problem=problem)

    def tls_loaded(self, certificate: str, *, days_left: float, again: bool) -> None:
        """The certificate of the shared listeners is in force; `again`: its files changed. A late one is a warning."""
        self.metrics.tls_loads.child("done").inc()
        log = self._runtime.info if days_left > _FEW_DAYS else self._runtime.warning
        log("TLS certificate in force", certificate=certificate, days_left=round(days_left, 1), reloaded=again)

    def tls_load_failed(self, problem: str) -> None:
        """The TLS files changed and are wrong: what was served before stays."""
        self.metrics.tls_loads.child("failed").inc()
        self._runtime.error("TLS certificate not reloaded, the former one stays in force", problem=problem)

    def tls_trouble(self, listener: str, reason: str, peer: str, problem: str) -> None:
        """A connection came to nothing over TLS. Every one is counted.

        `reason`: `plain_text` (a client spoke no TLS to a TLS port), `tls` (the other way round), `client_certificate`,
        `handshake`, `timeout`, `too_many`.
        """
        self.metrics.tls_troubles.child(listener, reason).inc()
        held = self._limiter.held_back("tls_trouble", listener, reason)
        if held is not None:
            self._identity.warning(
                _TLS_TROUBLES.get(reason, "TLS handshake failed"), listener=listener, reason=reason, peer=peer,
                **given(problem=problem), **repeats(held),
            )  # fmt: skip

    def ready(self, seconds: float) -> None:
        """All is open; `seconds` since the start."""
        self.metrics.ready.child().set(1)
        self._runtime.info("ready", seconds=round(seconds, 3))

    def stopping(self, reason: str) -> None:
        """The instance takes no new work; `reason` says who wants it."""
        self.metrics.ready.child().set(0)
        self._runtime.info("stopping", reason=reason)

    def drain_started(self, what: str, calls: int, seconds: float) -> None:
        """`what` (the instance, an app, a component) is given `seconds` to end its `calls`."""
        self.metrics.drains.child("started").inc()
        self._runtime.info("draining", what=what, calls=calls, seconds=seconds)

    def drain_done(self, what: str, seconds: float) -> None:
        """All calls have ended, after `seconds`."""
        self.metrics.drains.child("done").inc()
        self._runtime.info("drained", what=what, seconds=round(seconds, 3))

    def drain_timed_out(self, what: str, calls: int) -> None:
        """`calls` did not end in time and were cancelled."""
        self.metrics.drains.child("timed_out").inc()
        self._runtime.warning("drain timed out, calls were cancelled", what=what, calls=calls)

    def defect(self, where: str, error: BaseException, trace: str = "") -> None:
        """An exception that nothing expected. `where` names the code; `trace` is what the caller was told."""
        self.metrics.defects.child(where).inc()
        held = self._limiter.held_back("defect", where, type(error).__name__)
        if held is not None:
            self._runtime.error("defect", where=where, trace=trace, **repeats(held), exc_info=error)

    def setting_without_effect(self, setting: str, why: str = "") -> None:
        """A flag or variable was given that this version takes but does not act on. Told once."""
        self.metrics.without_effect.child(setting).inc()
        if self._first("setting", setting):
            self._runtime.warning("setting without effect", setting=setting, **given(why=why))

    def span(self, span: SpanRecord) -> None:
        """A sampled span of an app whose Configuration says `tracing.stdout`."""
        self.metrics.spans.child("stdout").inc()
        self._trace.info(
            "span", name=span.name, app_id=span.service, kind=span.kind, trace_id=span.trace_id, span_id=span.span_id,
            parent_id=span.parent_id, milliseconds=round((span.end - span.start) / 1e6, 3), **given(error=span.error or ""),
            attributes=dict(span.attributes),
        )  # fmt: skip

    def spans_dropped(self, target: str, reason: str, count: int, problem: str) -> None:
        """Spans that were not exported. `reason`: `queue_full`, `export`, `shutdown`, `missing` (a package)."""
        self.metrics.spans_dropped.child(target, reason).inc(count)
        held = self._limiter.held_back("spans_dropped", target, reason)
        if held is not None:
            self._trace.warning(
                "spans dropped", target=target, reason=reason, count=count, **given(problem=problem), **repeats(held)
            )

    def name_resolution_missing(self, problem: str) -> None:
        """The Configuration asks for a name resolver that cannot be: apps of other instances are not found."""
        self.metrics.without_effect.child("nameResolution").inc()
        self._runtime.warning("no name resolution", problem=problem)
