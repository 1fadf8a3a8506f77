"""Counting one operation on a component, whatever its outcome.

Part of step 4 of the request road. A class with slots: as a generator with `contextlib.contextmanager` it cost 1.6 µs a
call, of which the metric itself is 0.5.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from types import TracebackType

    from dapr_shared.contracts.registry import Opened
    from dapr_shared.identity.caller import Caller
    from dapr_shared.observability.call_metrics import OperationMetrics


class OperationFamily(Protocol):
    """The metrics of one block's operations (`DaprMetrics.state_operation`, …)."""

    def __call__(
        self, app_id: str, component: str, namespace: str, operation: str, *, success: bool
    ) -> OperationMetrics:
        """The metrics of one kind of operation."""
        ...


class Counted:
    """`with Counted(metrics.state_operation, caller, opened, "get"): …`; an exception counts as a failure."""

    __slots__ = ("_caller", "_family", "_opened", "_operation", "_started")

    def __init__(self, family: OperationFamily, caller: Caller, opened: Opened[Any], operation: str) -> None:
        self._family = family
        self._caller = caller
        self._opened = opened
        self._operation = operation
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        metrics = self._family(
            self._caller.app_id, self._opened.name, self._caller.namespace, self._operation, success=kind is None
        )
        metrics.record((perf_counter() - self._started) * 1000)
