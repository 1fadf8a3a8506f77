"""The API log: one line for each call of an API, off unless it is asked for.

Second step of the request road (pipeline), written when the answer has left. Names, scopes and fields are Dapr's
(reference behaviours §6). Queries, headers and bodies are not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import FilteringBoundLogger

    from dapr_shared.core.errors import GrpcCode
    from dapr_shared.core.ids import AppRef

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

    __slots__ = ("_apps", "_grpc", "_http", "_options", "enabled")

    def __init__(self, options: AccessLogOptions, logger: Callable[[str], FilteringBoundLogger]) -> None:
        self._options = options
        """For calls that prove no app."""
        self._apps: Mapping[AppRef, AccessLogOptions] = {}
        self.enabled = options.enabled
        """Whether any app has one. Hot code asks this before it gathers the fields."""
        self._http = logger("dapr.runtime.http-info")
        self._grpc = logger("dapr.runtime.grpc.api-info")

    def replace_apps(self, apps: Mapping[AppRef, AccessLogOptions]) -> None:
        """Log the calls of these apps so from now on."""
        self._apps = apps
        self.enabled = self._options.enabled or any(options.enabled for options in apps.values())

    def http(
        self,
        app: AppRef | None,
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
        options = self._of(app)
        if not options.enabled:
            return
        path = target.partition("?")[0]
        if options.omit_health_checks and (path == _HTTP_HEALTH or path.startswith(_HTTP_HEALTH + "/")):
            return
        fields: dict[str, str | int] = {
            "method": endpoint if options.obfuscate_urls else f"{method} {path}",
            "code": status,
            "size": size,
            "duration": int(milliseconds),
        }
        self._write(self._http, "HTTP API Called", app, fields, user_agent)

    def grpc(
        self, app: AppRef | None, method: str, *, code: GrpcCode, milliseconds: float, user_agent: str = ""
    ) -> None:
        """One call of the gRPC API; `method` is the full name, `/package.Service/Method`."""
        options = self._of(app)
        if not options.enabled or (options.omit_health_checks and method.startswith(_GRPC_HEALTH)):
            return
        fields: dict[str, str | int] = {"method": method, "code": int(code), "duration": int(milliseconds)}
        self._write(self._grpc, "gRPC API Called", app, fields, user_agent)

    def _of(self, app: AppRef | None) -> AccessLogOptions:
        return self._apps.get(app, self._options) if app is not None else self._options

    def _write(
        self,
        log: FilteringBoundLogger,
        message: str,
        app: AppRef | None,
        fields: dict[str, str | int],
        user_agent: str,
    ) -> None:
        if user_agent:
            fields["useragent"] = user_agent
        if app is not None:
            fields["app_id"] = app.app_id
        log.info(message, **fields)
