"""The way to one pluggable component: found, initialised, called, and found again after it was gone.

Last step of the request road and first of the delivery road. Whoever listens at the socket may be restarted at any time
and then knows nothing: a new socket file, or a call that was not connected, means `Init` again before the next call.
What it answers is not trusted: sizes and times are bounded, and what is no message is an error. Facts: reference
internal §7.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from google.protobuf.message import DecodeError, Message

from dapr_shared._proto import components_pb, reflection_alpha_pb, reflection_pb, rpc_pb
from dapr_shared.components.pluggable.sockets import FOLDER_VARIABLE, socket_of, sockets_folder
from dapr_shared.contracts.component import BackendError, BackendUnavailableError
from dapr_shared.contracts.settings import Kind, Setting, Settings
from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.client import ClientOptions, GrpcClient, GrpcStream
from dapr_shared.wire.grpc.interface import GrpcError
from dapr_shared.wire.grpc.messages import close

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from contextlib import AsyncExitStack
    from pathlib import Path

PACKAGE = "dapr.proto.components.v1"
CALL_TIMEOUT = 30.0
"""Seconds that a component may take for one call."""
MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes of the largest message from a component, or to it."""
RETRY_FIRST = 0.1
RETRY_LONGEST = 5.0
"""Seconds between two tries to reach a component that does not answer; calls in between fail at once."""
_LONGEST_TEXT = 500
_INSTANCE = "x-component-instance"
_DETAILS = "grpc-status-details-bin"

M = TypeVar("M", bound=Message)


class PluggableSettings(Settings, frozen=True, kw_only=True):
    """The settings of a pluggable component are its own business: all are passed on."""

    properties: Annotated[dict[str, str], Setting("All metadata of the component.", Kind.ALL, secret=True)] = (
        msgspec.field(default_factory=dict)
    )


class NotImplementedByComponentError(BackendError):
    """The component does not serve the method."""


class Connection:
    """The connection of one component; the methods raise `BackendError`."""

    def __init__(
        self,
        component_type: str,
        service: str,
        instance: str,
        initialise: Callable[[Connection], Awaitable[None]],
    ) -> None:
        """`service`: without the package. `instance`: by which the component tells several of its own apart.

        `initialise` makes the `Init` call, by `request`.
        """
        self._type = component_type
        self._service = service
        self._instance = instance
        self._initialise = initialise
        self._socket: Path | None = None
        self._client: GrpcClient | None = None
        self._ready_for: tuple[int, int] | None = None
        """The socket file that was initialised: inode and time; `None`: none is."""
        self._lock = asyncio.Lock()
        self._failed_for: tuple[int, int] | None = None
        self._problem = ""
        self._retry_at = 0.0
        self._delay = RETRY_FIRST
        self._closed = False

    async def open(self, stack: AsyncExitStack) -> None:
        """Connect and initialise. Raises `BackendError`, also where the program does not serve what is needed."""
        services = await self.connect(stack)
        if self._service not in services:
            serves = ", ".join(sorted(services)) or "none of a component"
            raise BackendError(f"the program at {self._socket} does not serve {self._service}, but {serves}")
        await self.ready()

    async def connect(self, stack: AsyncExitStack) -> frozenset[str]:
        """Connect; the short names of the services that the program serves. Raises `BackendError`."""
        self._socket = socket_of(self._type)
        if self._socket is None:
            raise BackendUnavailableError(
                f"there is no socket of {self._type} in {sockets_folder()} (the environment's {FOLDER_VARIABLE})"
            )
        self._client = GrpcClient(f"unix:{self._socket}", ClientOptions(max_message_bytes=MAX_MESSAGE))
        stack.push_async_callback(self._close)
        return await self._services(self._client)

    async def ready(self) -> None:
        """Return when the component is initialised; at once when it is. Raises `BackendUnavailableError`."""
        identity = self._look()
        if identity == self._ready_for:
            return
        async with self._lock:
            identity = self._look()
            if identity == self._ready_for:
                return
            now = asyncio.get_running_loop().time()
            if identity == self._failed_for and now < self._retry_at:
                raise BackendUnavailableError(self._problem)
            self._opened().reconnect()
            try:
                await self._initialise(self)
            except BackendError as error:
                self._failed_for, self._problem = identity, str(error)
                # From now on, not from when it began: those who waited for a slow `Init` would each wait for another.
                self._retry_at = asyncio.get_running_loop().time() + self._delay * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
                self._delay = min(self._delay * 2, RETRY_LONGEST)
                raise
            self._ready_for, self._failed_for, self._delay = identity, None, RETRY_FIRST

    async def call(self, method: str, request: Message, answer: type[M], *, service: str = "") -> M:
        """One unary call of an initialised component."""
        await self.ready()
        return await self.request(method, request, answer, service=service)

    async def request(self, method: str, request: Message, answer: type[M], *, service: str = "") -> M:
        """One unary call, whether the component is initialised or not."""
        path = f"/{PACKAGE}.{service or self._service}/{method}"
        data = request.SerializeToString()
        if len(data) > MAX_MESSAGE:
            raise BackendError(f"{len(data)} bytes are more than a component is sent ({MAX_MESSAGE})")
        try:
            found = await self._opened().unary(path, data, self._metadata(), timeout=CALL_TIMEOUT)
        except GrpcError as error:
            raise self.failure(error) from error
        try:
            return answer.FromString(found.data)
        except DecodeError as error:
            raise BackendError(f"the component answered {method} with what is no {answer.DESCRIPTOR.name}") from error

    def stream(self, method: str, messages: AsyncIterator[bytes]) -> GrpcStream:
        """A call of streams; `GrpcError` of it is to be given to `failure`."""
        return self._opened().stream(f"/{PACKAGE}.{self._service}/{method}", messages, self._metadata())

    def failure(self, error: GrpcError) -> BackendError:
        """What a status means; after a lost connection the component is initialised anew before the next call."""
        text = error.message[:_LONGEST_TEXT] or error.code.name
        if error.unreachable:
            self._ready_for = None
        if error.unreachable or error.code is GrpcCode.UNAVAILABLE:
            return BackendUnavailableError(f"the pluggable component at {self._socket} is not reached: {text}")
        if error.code is GrpcCode.UNIMPLEMENTED:
            return NotImplementedByComponentError(f"{self._type} does not implement this: {text}")
        if error.code is GrpcCode.DEADLINE_EXCEEDED:
            return BackendError(f"the pluggable component took longer than {CALL_TIMEOUT:g} s")
        return BackendError(text)

    def _look(self) -> tuple[int, int]:
        """Which socket file is there."""
        self._opened()
        try:
            found = self._socket.stat() if self._socket else None
        except OSError as error:
            self._ready_for = None
            raise BackendUnavailableError(f"the socket {self._socket} of the pluggable component is gone") from error
        return (found.st_ino, found.st_ctime_ns) if found else (0, 0)

    def _opened(self) -> GrpcClient:
        if self._client is None or self._closed:
            raise BackendError("the component is closed")
        return self._client

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return ((_INSTANCE, self._instance),)

    async def _close(self) -> None:
        self._closed = True
        if self._client is not None:
            await self._client.aclose()
            await asyncio.sleep(0.01)  # a call that was cancelled ends, in gRPC, in a task of its own

    async def _services(self, client: GrpcClient) -> frozenset[str]:
        """What the program serves, by reflection: Dapr asks for v1alpha, newer programs have v1 alone."""
        problem: BackendError = BackendError("")
        for name, module in _REFLECTION:
            try:
                async with asyncio.timeout(CALL_TIMEOUT):
                    return await _list_services(client, name, module)
            except GrpcError as error:
                problem = self.failure(error)
                if error.code is not GrpcCode.UNIMPLEMENTED:
                    break
            except (DecodeError, TimeoutError) as error:
                raise BackendError(f"the program at {self._socket} does not say what it serves") from error
        raise problem


_REFLECTION: tuple[tuple[str, Any], ...] = (
    ("grpc.reflection.v1alpha.ServerReflection", reflection_alpha_pb),
    ("grpc.reflection.v1.ServerReflection", reflection_pb),
)


async def _list_services(client: GrpcClient, name: str, module: Any) -> frozenset[str]:
    ask = module.ServerReflectionRequest(list_services="")

    async def requests() -> AsyncIterator[bytes]:
        yield ask.SerializeToString()

    found: set[str] = set()
    stream = client.stream(f"/{name}/ServerReflectionInfo", requests())
    messages = stream.messages()
    try:
        async for data in messages:
            answer = module.ServerReflectionResponse.FromString(data)
            found |= {service.name for service in answer.list_services_response.service}
    finally:
        stream.cancel()
        await close(messages)
    return frozenset(service.removeprefix(f"{PACKAGE}.") for service in found if service.startswith(f"{PACKAGE}."))


def init_metadata(properties: Mapping[str, str]) -> components_pb.MetadataRequest:
    """The settings as `Init` takes them."""
    return components_pb.MetadataRequest(properties=dict(properties))


def violated_field(error: BaseException | None) -> str:
    """The one field that a status complains about; empty where there is none."""
    if not isinstance(error, GrpcError):
        return ""
    details = next((value for key, value in error.trailers if key == _DETAILS), b"")
    try:
        status = rpc_pb.Status.FromString(details if isinstance(details, bytes) else details.encode())
        bad = rpc_pb.BadRequest()
        if len(status.details) != 1 or not status.details[0].Unpack(bad) or len(bad.field_violations) != 1:
            return ""
    except DecodeError:
        return ""
    return bad.field_violations[0].field
