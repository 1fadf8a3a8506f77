"""What each app's resources say about logs: its API log and its log level.

Assembly, at start and on reload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.observability.access_log import AccessLogOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dapr_shared.identity.caller import RegisteredApp
    from dapr_shared.observability.access_log import AccessLog
    from dapr_shared.observability.logs import Logs
    from dapr_shared.resources.model import App, Configuration
    from dapr_shared.runtime.settings import Settings


class AppLogs:
    """Hands the apps' wishes to the logs."""

    def __init__(self, settings: Settings, access_log: AccessLog, logs: Logs) -> None:
        self._settings = settings
        self._access_log = access_log
        self._logs = logs

    def adopt(self, records: Iterable[RegisteredApp]) -> None:
        """Log so from now on."""
        records = list(records)
        self._access_log.replace_apps(
            {record.ref: access_log_options(self._settings, record.configuration, record.app) for record in records}
        )
        self._logs.set_levels_of_apps(
            {record.ref.app_id: record.app.log_level for record in records if record.app.log_level}
        )


def access_log_options(
    settings: Settings, configuration: Configuration | None, app: App | None = None
) -> AccessLogOptions:
    """The API log as a Configuration wants it; whether there is one, the App decides before the flag, and that before it."""
    logging = configuration.api_logging if configuration else None
    enabled = app.api_logging if app and app.api_logging is not None else settings.enable_api_logging
    return AccessLogOptions(
        enabled=enabled if enabled is not None else bool(logging and logging.enabled),
        obfuscate_urls=bool(logging and logging.obfuscate_urls),
        omit_health_checks=bool(logging and logging.omit_health_checks),
    )
