"""The API log: one line for each call of an API, off unless it is asked for.

Second step of the request road (pipeline), written when the answer has left. Names, scopes and fields are Dapr's
(reference behaviours §6). Queries, headers and bodies are not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from dapr_shared.core.errors import GrpcCode

_HTTP_HEALTH = "/v1.0/healthz"
_GRPC_HEALTH = "/grpc.health.v1.Health/"


@dataclass(frozen=True, slots=True)
class AccessLogOptions:
    """What `spec.logging.apiLogging` of the Configuration and `--enable-api-logging` say."""

    enabled: bool = False
    obfuscate_urls: bool = False
    """Write the endpoint's name instead of the method and the path."""
    omit_health_checks: bool = False


class AccessLog:
    """Writes the API log. `logger` makes the logger of a scope (`Logs.logger`)."""

    __slots__ = ("_grpc", "_http", "enabled", "obfuscate_urls", "omit_health_checks")

    def __init__(self, options: AccessLogOptions, logger: Callable[[str], FilteringBoundLogger]) -> None:
        self.enabled = options.enabled
        """Hot code asks this before it gathers the fields."""
        self.obfuscate_urls = options.obfuscate_urls
        self.omit_health_checks = options.omit_health_checks
        self._http = logger("dapr.runtime.http-info")
        self._grpc = logger("dapr.runtime.grpc.api-info")

    def http(
        self,
        app_id: str,
        method: str,
        target: str,
        endpoint: str,
        *,
        status: int,
        size: int,
        milliseconds: float,
        user_agent: str = "",
    ) -> None:
        """One request to the HTTP API.

        `target` is the request target, whose query is left out; `endpoint` the endpoint's name; `size` the bytes of the
        response body.
        """
        if not self.enabled:
            return
        path = target.partition("?")[0]
        if self.omit_health_checks and (path == _HTTP_HEALTH or path.startswith(_HTTP_HEALTH + "/")):
            return
        fields: dict[str, str | int] = {
            "method": endpoint if self.obfuscate_urls else f"{method} {path}",
            "code": status,
            "size": size,
            "duration": int(milliseconds),
        }
        self._write(self._http, "HTTP API Called", app_id, fields, user_agent)

    def grpc(self, app_id: str, method: str, *, code: GrpcCode, milliseconds: float, user_agent: str = "") -> None:
        """One call of the gRPC API; `method` is the full name, `/package.Service/Method`."""
        if not self.enabled or (self.omit_health_checks and method.startswith(_GRPC_HEALTH)):
            return
        fields: dict[str, str | int] = {"method": method, "code": int(code), "duration": int(milliseconds)}
        self._write(self._grpc, "gRPC API Called", app_id, fields, user_agent)

    def _write(
        self, log: FilteringBoundLogger, message: str, app_id: str, fields: dict[str, str | int], user_agent: str
    ) -> None:
        if user_agent:
            fields["useragent"] = user_agent
        if app_id:
            fields["app_id"] = app_id
        log.info(message, **fields)
