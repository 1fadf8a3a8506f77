"""Health over HTTP: Dapr's two paths, and the probes of a cluster. Facts: reference http-api §11."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.api.http.call import HttpCall, no_content
from dapr_shared.api.http.routes import Route
from dapr_shared.core.errors import DaprError
from dapr_shared.wire.http.messages import Response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.blocks.health import HealthBlock


class HealthApi:
    """Turns HTTP requests into questions to the health block."""

    def __init__(self, health: HealthBlock) -> None:
        self._health = health

    def routes(self) -> Sequence[Route]:
        """Dapr's own."""
        return [
            Route(("GET",), "/v1.0/healthz", self.healthz, "Healthz", "healthz", open=True, public=True),
            Route(
                ("GET",), "/v1.0/healthz/outbound", self.outbound, "HealthzOutbound", "healthz", open=True, public=True
            ),
        ]

    def probes(self) -> Sequence[Route]:
        """What the public port serves beside the routes that are public; ours, for the probes of a cluster."""
        return [
            Route(("GET",), "/livez", self.livez, "Livez", "healthz", open=True, public=True),
            Route(("GET",), "/readyz", self.readyz, "Readyz", "healthz", open=True, public=True),
        ]

    async def livez(self, call: HttpCall) -> Response:  # noqa: ARG002 - every handler takes the call
        return _plain(200, "ok")

    async def readyz(self, call: HttpCall) -> Response:  # noqa: ARG002 - every handler takes the call
        try:
            self._health.check_outbound()
        except DaprError as error:
            return _plain(503, error.message)
        return _plain(200, "ok")

    async def healthz(self, call: HttpCall) -> Response:
        self._health.check(call.query("appid") or None)
        return no_content()

    async def outbound(self, call: HttpCall) -> Response:  # noqa: ARG002 - every handler takes the call
        self._health.check_outbound()
        return no_content()


def _plain(status: int, text: str) -> Response:
    return Response(status, [(b"content-type", b"text/plain; charset=utf-8")], f"{text}\n".encode())
