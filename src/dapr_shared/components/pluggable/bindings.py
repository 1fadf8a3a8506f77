"""A binding of another program: what apps call, what calls apps, or both.

Last step of the request road (`Invoke`) and first of the delivery road (`Read`: a stream of events in one direction and
of acknowledgements in the other). Which directions it has is asked by reflection, which operations when it is
initialised. Each app that reads has an instance of its own at the program, named `<component>.<app>`, as each consumer
group of a broker has (decision 0018); an instance for one app has the component's. Facts: reference internal §7.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from dapr_shared._proto import components_pb
from dapr_shared.components.pluggable.connection import Connection, PluggableSettings, init_metadata
from dapr_shared.components.pluggable.pull import Feed, Pulls
from dapr_shared.contracts.bindings import (
    BindingCapability,
    BindingEvent,
    BindingRequest,
    BindingResponse,
    EventHandler,
    InputBinding,
    Outcome,
    OutputBinding,
    Reading,
    ReadRequest,
)
from dapr_shared.contracts.component import BackendError

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

_DIRECTION = "direction"
_SERVICES = {
    "OutputBinding": (BindingCapability.OUTPUT_BINDING, "output"),
    "InputBinding": (BindingCapability.INPUT_BINDING, "input"),
}
_REFUSED = components_pb.AckResponseError(message="the app did not accept the event")


class PluggableBinding(InputBinding[PluggableSettings], OutputBinding[PluggableSettings]):
    """A binding behind a socket."""

    settings_type = PluggableSettings
    capabilities: ClassVar[frozenset[str]] = frozenset(BindingCapability)

    _output: Connection | None = None
    _input: Connection | None = None
    _stack: AsyncExitStack | None = None

    def effective_capabilities(self) -> frozenset[str]:
        if self._stack is None:  # what the program serves is not known yet
            return type(self).capabilities
        served = {"OutputBinding": self._output, "InputBinding": self._input}
        return frozenset(_SERVICES[name][0] for name, connection in served.items() if connection is not None)

    async def start(self, stack: AsyncExitStack) -> None:
        output = self._connect("OutputBinding", self.context.name)
        source = self._connect("InputBinding", self.context.name)
        served = await output.connect(stack)
        wanted = [name for name in _SERVICES if name in served and self._is_of(_SERVICES[name][1])]
        if not wanted:
            raise BackendError(f"the program of {self.context.type} serves no binding of the component's direction")
        if "OutputBinding" in wanted:
            await output.ready()
            self._output = output
        if "InputBinding" in wanted:
            await source.open(stack)
            self._input = source
        self._readers: dict[str, Connection] = {}
        self._opening = asyncio.Lock()
        self._pulls = Pulls(stack)
        self._stack = stack

    def _is_of(self, direction: str) -> bool:
        """Whether the component's `direction` allows this one."""
        given = [value for name, value in self.settings.properties.items() if name.lower() == _DIRECTION]
        return not given or direction in {part.strip().lower() for part in given[0].split(",")}

    def _connect(self, service: str, instance: str) -> Connection:
        initialise = self._initialise_output if service == "OutputBinding" else self._initialise_input
        return Connection(self.context.type, service, instance, initialise)

    async def _initialise_output(self, connection: Connection) -> None:
        request = components_pb.OutputBindingInitRequest(metadata=init_metadata(self.settings.properties))
        await connection.request("Init", request, components_pb.OutputBindingInitResponse)
        answer = await connection.request(
            "ListOperations", components_pb.ListOperationsRequest(), components_pb.ListOperationsResponse
        )
        self.operations = tuple(answer.operations)  # pyright: ignore[reportAttributeAccessIssue] - each program has its own

    async def _initialise_input(self, connection: Connection) -> None:
        request = components_pb.InputBindingInitRequest(metadata=init_metadata(self.settings.properties))
        await connection.request("Init", request, components_pb.InputBindingInitResponse)

    async def ping(self) -> None:
        opened = [connection for connection in (self._output, self._input) if connection is not None]
        if not opened:
            raise BackendError(f"the binding {self.context.name} is not open")
        for connection in opened:
            await connection.call("Ping", components_pb.PingRequest(), components_pb.PingResponse)

    async def invoke(self, request: BindingRequest) -> BindingResponse | None:
        if self._output is None:
            raise BackendError(f"the output binding {self.context.name} is not open")
        message = components_pb.InvokeRequest(
            data=request.data, metadata=dict(request.metadata), operation=request.operation
        )
        answer = await self._output.call("Invoke", message, components_pb.InvokeResponse)
        return BindingResponse(answer.data, dict(answer.metadata))

    async def read(self, request: ReadRequest, handler: EventHandler) -> Reading:
        connection = await self._of_reader(request.reader)
        return await self._pulls.begin(connection, _Events(self.context.name, handler), request.max_in_flight)

    async def _of_reader(self, reader: str) -> Connection:
        if self._input is None or self._stack is None:
            raise BackendError(f"the input binding {self.context.name} is not open")
        await self._input.ready()  # raises where the component is closed
        if reader == self.context.app_id:
            return self._input
        async with self._opening:
            connection = self._readers.get(reader)
            if connection is None:
                connection = self._connect("InputBinding", f"{self.context.name}.{reader}")
                await connection.open(self._stack)
                self._readers[reader] = connection
            return connection


class _Events(Feed[components_pb.ReadResponse]):
    """The events of a binding for one handler."""

    method = "Read"
    first = None  # as in Dapr: programs take the first request for an acknowledgement

    def __init__(self, name: str, handler: EventHandler) -> None:
        self.name = name
        self._handler = handler

    def read(self, data: bytes) -> components_pb.ReadResponse:
        return components_pb.ReadResponse.FromString(data)

    def id_of(self, pulled: components_pb.ReadResponse) -> str:
        return pulled.message_id

    async def handle(self, pulled: components_pb.ReadResponse, deliveries: int) -> tuple[Outcome, bytes]:
        del deliveries  # events are not counted
        answers: list[bytes] = []
        event = BindingEvent(pulled.data, dict(pulled.metadata), pulled.message_id, answers.append)
        outcome = await self._handler(event)
        return outcome, answers[-1] if answers else b""

    def ack(self, message_id: str, answer: bytes, *, refused: bool) -> bytes:
        error = _REFUSED if refused else None
        response = components_pb.ReadRequest(message_id=message_id, response_data=answer, response_error=error)
        return response.SerializeToString()
