"""The health block: whether this instance can serve.

Step 4 of the request road. In single-app mode the runtime is ready once the app's port accepts connections; a shared
instance never depends on any app. Facts: reference behaviours §12, daprd-flags §5.
"""

from __future__ import annotations

from dapr_shared.core import errors


class HealthBlock:
    """Named conditions, each ready or not."""

    def __init__(self, *, app_id: str | None) -> None:
        self._app_id = app_id
        self._waiting: dict[str, str] = {}
        self._outbound_waiting: dict[str, str] = {}

    def wait_for(self, condition: str, detail: str, *, outbound: bool) -> None:
        """Not ready until `ready(condition)`; `outbound`: nor is the outbound health."""
        self._waiting[condition] = detail
        if outbound:
            self._outbound_waiting[condition] = detail

    def ready(self, condition: str) -> None:
        """The condition holds now."""
        self._waiting.pop(condition, None)
        self._outbound_waiting.pop(condition, None)

    def check(self, app_id: str | None = None) -> None:
        """Raise `HEALTH_NOT_READY`, or `HEALTH_APPID_NOT_MATCH` when another app id is asked for."""
        if app_id is not None and self._app_id is not None and app_id != self._app_id:
            raise errors.HEALTH_APPID_NOT_MATCH()
        if self._waiting:
            raise errors.HEALTH_NOT_READY(detail=_list(self._waiting))

    def check_outbound(self) -> None:
        """Raise `OUTBOUND_HEALTH_NOT_READY` while components and front doors are not up."""
        if self._outbound_waiting:
            raise errors.OUTBOUND_HEALTH_NOT_READY(detail=_list(self._outbound_waiting))


def _list(conditions: dict[str, str]) -> str:
    return "[" + "; ".join(f"{name}: {detail}" for name, detail in conditions.items()) + "]"
