"""The shutdown block: an app asks its runtime to end.

Step 4 of the request road. In single-app mode the process ends, as daprd does; on a shared instance only the
deliveries to the calling app end, and the instance goes on (design §5.6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.caller import Caller


class ShutdownBlock:
    """What `/v1.0/shutdown` does."""

    def __init__(
        self, *, single_app: bool, stop: Callable[[bool], None], stop_deliveries: Callable[[AppRef], None]
    ) -> None:
        self._single_app = single_app
        self._stop = stop
        self._stop_deliveries = stop_deliveries

    def shutdown(self, caller: Caller, *, force: bool) -> None:
        """End the instance (single-app mode; `force`: at once, exit code 1), or the deliveries to the caller's app."""
        if self._single_app:
            self._stop(force)
        else:
            self._stop_deliveries(caller.ref)
