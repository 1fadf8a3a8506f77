"""How many calls of one app may be in flight at once: one app cannot take the instance from the others.

Step 3 of the request road. The limit holds for one instance (design §5.12: limits are per instance).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from dapr_shared.core import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dapr_shared.core.ids import AppRef


class CallLimits:
    """Counts the calls in flight of each app. An app without any takes no memory."""

    __slots__ = ("_in_flight", "per_app")

    def __init__(self, per_app: int) -> None:
        """`per_app`: calls at once, at least 1; raises `ValueError` for less."""
        if per_app < 1:
            raise ValueError(f"the limit of calls in flight per app must be at least 1, found {per_app}")
        self.per_app = per_app
        self._in_flight: dict[AppRef, int] = {}

    def enter(self, ref: AppRef) -> None:
        """A call of this app begins. Raises `TOO_MANY_CALLS` at the limit; then there is nothing to leave."""
        count = self._in_flight.get(ref, 0)
        if count >= self.per_app:
            raise errors.TOO_MANY_CALLS(app=ref.app_id, limit=self.per_app)
        self._in_flight[ref] = count + 1

    def leave(self, ref: AppRef) -> None:
        """A call that entered has ended, whatever its outcome. Raises `KeyError` if none is in flight: a defect."""
        count = self._in_flight[ref]
        if count == 1:
            del self._in_flight[ref]
        else:
            self._in_flight[ref] = count - 1

    @property
    def in_flight(self) -> Mapping[AppRef, int]:
        """Calls in flight now, of each app that has any: a live view for metrics."""
        return MappingProxyType(self._in_flight)
