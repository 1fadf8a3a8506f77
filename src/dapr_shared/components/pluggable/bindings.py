"""An output binding of another program.

Last step of the request road. What it can do it lists when it is initialised. Input bindings are not served yet. Facts: reference internal §7.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dapr_shared._proto import components_pb
from dapr_shared.components.pluggable.connection import Connection, PluggableSettings, init_metadata
from dapr_shared.contracts.bindings import BindingCapability, BindingRequest, BindingResponse, OutputBinding
from dapr_shared.contracts.component import BackendError

if TYPE_CHECKING:
    from contextlib import AsyncExitStack


class PluggableBinding(OutputBinding[PluggableSettings]):
    """An output binding behind a socket."""

    settings_type = PluggableSettings
    capabilities: ClassVar[frozenset[str]] = frozenset({BindingCapability.OUTPUT_BINDING})

    async def start(self, stack: AsyncExitStack) -> None:
        self._connection = Connection(self.context.type, "OutputBinding", self.context.name, self._initialise)
        await self._connection.open(stack)

    async def _initialise(self, connection: Connection) -> None:
        request = components_pb.OutputBindingInitRequest(metadata=init_metadata(self.settings.properties))
        await connection.request("Init", request, components_pb.OutputBindingInitResponse)
        answer = await connection.request(
            "ListOperations", components_pb.ListOperationsRequest(), components_pb.ListOperationsResponse
        )
        self.operations = tuple(answer.operations)  # pyright: ignore[reportAttributeAccessIssue] - each program has its own

    async def ping(self) -> None:
        await self._open().call("Ping", components_pb.PingRequest(), components_pb.PingResponse)

    async def invoke(self, request: BindingRequest) -> BindingResponse | None:
        message = components_pb.InvokeRequest(
            data=request.data, metadata=dict(request.metadata), operation=request.operation
        )
        answer = await self._open().call("Invoke", message, components_pb.InvokeResponse)
        return BindingResponse(answer.data, dict(answer.metadata))

    def _open(self) -> Connection:
        connection: Connection | None = getattr(self, "_connection", None)
        if connection is None:
            raise BackendError(f"the binding {self.context.name} is not open")
        return connection
