"""How a request is refused that proves no app.

Step 2 of the request road.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dapr_shared.core.errors import DaprError


class RefusedError(Exception):
    """A request that proves no app. `reason` is the label of the counter and the audit event."""

    def __init__(self, reason: str, error: DaprError) -> None:
        super().__init__(error.message)
        self.reason = reason
        self.error = error
