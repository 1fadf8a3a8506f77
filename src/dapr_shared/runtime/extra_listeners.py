"""The public port and the port of metrics: listeners beside the Dapr API, for probes, operators and Prometheus.

Assembly. In a cluster they are open before anything is known that the API server has to say, so that a pod whose API server is
away is alive and not ready, and is not restarted. What they serve changes then; the listeners stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.api.http.frontdoor import PublicFrontDoor
from dapr_shared.api.http.health import HealthApi
from dapr_shared.blocks.health import HealthBlock
from dapr_shared.identity.caller import ListenerIdentity
from dapr_shared.runtime.listeners import bounds
from dapr_shared.runtime.ports import joined, port_taken
from dapr_shared.wire.http.messages import Response
from dapr_shared.wire.http.server import serve

if TYPE_CHECKING:
    from dapr_shared.observability.events import Events
    from dapr_shared.runtime.settings import Settings
    from dapr_shared.wire.http.messages import Handler, Request
    from dapr_shared.wire.http.server import HttpServer

_METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
PUBLIC, METRICS = "public", "metrics"


class ExtraListeners:
    """Opened once, closed at the end."""

    def __init__(self, settings: Settings, events: Events) -> None:
        self._settings = settings
        self._events = events
        self._limits, _ = bounds(settings.max_body_size, settings.read_buffer_size)
        self.health = HealthBlock(app_id=None)
        """Of the time before there is anything else to serve."""
        api = HealthApi(self.health)
        self._public: Handler = PublicFrontDoor([*api.routes(), *api.probes()], body_limit=self._limits.body_bytes)
        self._open: dict[str, HttpServer] = {}

    async def open(self) -> None:
        """Listen, if that is not done yet. Raises `PortTakenError`."""
        settings = self._settings
        if self._open:
            return
        if settings.enable_metrics and settings.metrics_port:
            await self._listen(
                settings.metrics_listen_address, settings.metrics_port, self._answer_metrics, METRICS, "--metrics-port"
            )
        if settings.dapr_public_port:
            await self._listen(
                settings.dapr_public_listen_address,
                settings.dapr_public_port,
                self._answer_public,
                PUBLIC,
                "--dapr-public-port",
            )

    def serve(self, public: Handler, events: Events) -> None:
        """Serve these from now on: the public port's handler, and the metrics of these events."""
        self._public, self._events = public, events
        for name in self._open:
            events.metrics.connections.child(name, "http").set(0)

    def close(self) -> None:
        """Stop at once."""
        for server in self._open.values():
            server.close()
        self._open.clear()

    async def _listen(self, address: str, port: int, handler: Handler, name: str, flag: str) -> None:
        where = joined(address, port)
        try:
            server = await serve(
                where, handler, listener=ListenerIdentity(name), limits=self._limits, on_defect=self._defect
            )
        except OSError as error:
            raise port_taken(where, flag, error) from error
        self._open[name] = server
        self._events.listening(name, "http", server.address)

    async def _answer_public(self, request: Request) -> Response:
        return await self._public(request)

    async def _answer_metrics(self, request: Request) -> Response:  # noqa: ARG002 - any path and verb, as daprd does
        body = b"".join(self._events.metrics.registry.chunks())
        return Response(200, [(b"content-type", _METRICS_TYPE)], body)

    def _defect(self, request: Request, error: BaseException) -> None:
        self._events.defect(f"{request.method} {request.target[:100]!r}", error)
