"""Counting one operation on a component, whatever its outcome, and its turn where the component can do few at a time.

Part of step 4 of the request road. A struct: as a generator with `contextlib.contextmanager` it cost 1.6 µs a call, of
which the metric itself is 0.5.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, Self

import msgspec

from dapr_shared.contracts.turns import NoTurnError
from dapr_shared.core import errors

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


class Counted(msgspec.Struct, eq=False):
    """`with Counted(metrics.state_operation, caller, opened, "get") as counted: …`; an exception counts as a failure.

    Where `opened.turns` is set, `await counted.turn()` comes before the component is called: the app waits for its turn,
    which is time of the operation and ends with it.
    """

    _family: OperationFamily
    _caller: Caller
    _opened: Opened[Any]
    _operation: str
    _started: float = 0.0
    _has_turn: bool = False

    def __enter__(self) -> Self:
        self._started = perf_counter()
        return self

    async def turn(self) -> None:
        """Wait for the app's turn. Raises `COMPONENT_BUSY`."""
        turns, ref = self._opened.turns, self._caller.ref
        if turns is None:
            return
        if not turns.try_enter(ref):
            try:
                await turns.wait(ref)
            except NoTurnError as error:
                raise errors.COMPONENT_BUSY(
                    component=self._opened.name, total=turns.total, app=ref.app_id, seconds=turns.timeout
                ) from error
        self._has_turn = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._has_turn and self._opened.turns is not None:
            self._opened.turns.leave(self._caller.ref)
        metrics = self._family(
            self._caller.app_id, self._opened.name, self._caller.namespace, self._operation, success=kind is None
        )
        metrics.record((perf_counter() - self._started) * 1000)
