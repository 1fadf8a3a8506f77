"""The output side of the bindings block: an app calls an external system.

Step 4 of the request road. Facts: reference http-api §6, grpc-api §1.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from dapr_shared.blocks.counted import Counted
from dapr_shared.contracts.bindings import (
    BindingCapability,
    BindingError,
    BindingRequest,
    BindingResponse,
    OutputBinding,
)
from dapr_shared.contracts.component import BackendError
from dapr_shared.core import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dapr_shared.contracts.registry import Components, Opened
    from dapr_shared.core.errors import DaprError
    from dapr_shared.identity.caller import Caller
    from dapr_shared.observability.dapr_metrics import DaprMetrics

INPUT = "input"
OUTPUT = "output"
CREATE = "create"
"""The operation by which the answer to an event calls other bindings."""


class BindingsBlock:
    """Output bindings for many apps."""

    def __init__(self, components: Components, metrics: DaprMetrics) -> None:
        self._components = components
        self._metrics = metrics

    async def invoke(
        self, caller: Caller, name: str, operation: str, data: bytes, metadata: Mapping[str, str]
    ) -> BindingResponse | None:
        """Call a binding; `None` where the system answers nothing.

        Raises `BINDING_INVOKE`, whatever is wrong, as daprd does; its `metadata` is what the system answered beside
        its failure.
        """
        if not operation:
            raise _failed(name, "operation field is missing from request")
        opened = self._find(caller, name)
        if opened is None:
            raise _failed(name, f"couldn't find output binding {name}")
        known = opened.component.operations
        if operation not in known:
            detail = f"binding {name} does not support operation {operation}. supported operations:{' '.join(known)}"
            raise _failed(name, detail)
        with Counted(self._metrics.output_binding, caller, opened, operation) as counted:
            if opened.turns is not None:
                await counted.turn()
            try:
                return await opened.component.invoke(BindingRequest(operation, data, metadata))
            except BackendError as error:
                failure = _failed(name, error)
                if isinstance(error, BindingError):
                    failure.metadata = error.response.metadata
                raise failure from error

    def _find(self, caller: Caller, name: str) -> Opened[OutputBinding[Any]] | None:
        # The contract stands for all its adapters, whatever their settings are.
        opened = self._components.find(cast("type[OutputBinding[Any]]", OutputBinding), caller.ref, name)
        if opened is None or BindingCapability.OUTPUT_BINDING not in opened.capabilities:
            return None
        return opened if has_direction(opened, OUTPUT, otherwise=True) else None


def has_direction(opened: Opened[Any], direction: str, *, otherwise: bool) -> bool:
    """Whether the component's `direction` names this one; `otherwise` where it has none."""
    text = opened.runtime_metadata.get("direction", "")
    if not text.strip():
        return otherwise
    return direction in {part.strip().lower() for part in text.split(",")}


def _failed(name: str, detail: object) -> DaprError:
    return errors.BINDING_INVOKE(name=name, detail=detail)
