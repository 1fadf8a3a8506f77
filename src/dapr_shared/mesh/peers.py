"""Calls of apps that other instances and daprd sidecars serve, over `ServiceInvocation` (reference internal §3).

Step 6c of the request road: one try of one call. The block decides who may call what and whether to try again.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from google.protobuf.message import DecodeError

from dapr_shared._proto import internals_pb
from dapr_shared.contracts.invocation import (
    AppTimeoutError,
    AppUnreachableError,
    CallDeniedError,
    ChannelError,
)
from dapr_shared.core.errors import GrpcCode
from dapr_shared.mesh.connections import PeerConnections
from dapr_shared.mesh.messages import (
    CALL_LOCAL,
    CALL_LOCAL_STREAM,
    CALLEE_NAMESPACE,
    announced_length,
    received_response,
    request_message,
)
from dapr_shared.mesh.names import PeerNames
from dapr_shared.mesh.pieces import PieceBody, request_pieces, response_payload
from dapr_shared.observability.dapr_metrics import GRPC_STATUS_NAMES
from dapr_shared.observability.tracing import grpc_trace_bin
from dapr_shared.wire.grpc.client import ClientOptions
from dapr_shared.wire.grpc.interface import GrpcError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from contextlib import AsyncExitStack

    from dapr_shared.contracts.invocation import InvokeRequest, InvokeResponse
    from dapr_shared.contracts.nameresolution import NameResolver
    from dapr_shared.core.ids import AppRef
    from dapr_shared.mesh.connections import Lease
    from dapr_shared.mesh.names import Lookup
    from dapr_shared.wire.grpc.interface import Client, Metadata

MESSAGE_SLACK: Final = 64 * 1024
"""Bytes of a message beside the body: method, headers and query."""
_KEEPALIVE: Final = 10.0
"""Seconds between pings while calls are in flight: daprd's, and what its server allows."""
_LOST: Final = frozenset({GrpcCode.UNAVAILABLE, GrpcCode.UNAUTHENTICATED})
"""The connection is of no use, or the peer will not be there for long (reference internal §3)."""


class Peers:
    """The other instances and sidecars, as one."""

    def __init__(
        self,
        resolver: NameResolver[Any],
        *,
        body_limit: int,
        forwarded: Mapping[str, str],
        lookup: Lookup | None = None,
    ) -> None:
        """`body_limit`: bytes of a whole message's body, 0 for none. `forwarded`: what is added to headers of proxies."""
        self._names = PeerNames(resolver, lookup=lookup)
        options = ClientOptions(
            max_message_bytes=body_limit + MESSAGE_SLACK if body_limit else 0, keepalive_interval=_KEEPALIVE
        )
        self._connections = PeerConnections(options)
        self._body_limit = body_limit
        self._forwarded = forwarded

    async def start(self, stack: AsyncExitStack) -> None:
        """Close the connections when the stack is unwound. Nothing connects yet."""
        stack.callback(self._names.close)
        stack.push_async_callback(self._connections.aclose)

    async def invoke(self, app: AppRef, request: InvokeRequest) -> InvokeResponse:
        """Call a method of an app. The body of the answer is `bytes` or a `BodyStream`: read it to its end or close it.

        Raises `ResolveError`, `AppUnreachableError` (no connection, or the peer is about to end), `CallDeniedError`,
        `AppTimeoutError`, `ChannelBusyError`, `ChannelError`, and `BodyError` when the body of the request breaks off.
        """
        address = await self._names.address(app)
        lease = self._connections.take(address)
        try:
            return await self._stream(lease, app, request)
        except GrpcError as error:
            lease.give_back()
            if error.code in _LOST:
                self._lost(app, address)
            elif error.code is GrpcCode.NOT_FOUND:  # the app has moved away from there
                self._names.forget(app)
            raise _failure(error, address) from error
        except BaseException:
            lease.give_back()
            raise

    @asynccontextmanager
    async def connection(self, app: AppRef) -> AsyncGenerator[Client]:
        """A connection to a peer of the app, for one call that is relayed; `GrpcError` of the call passes through.

        Raises `ResolveError`, `ChannelBusyError`.
        """
        address = await self._names.address(app)
        lease = self._connections.take(address)
        try:
            yield lease.client
        except GrpcError as error:
            if error.unreachable:
                self._lost(app, address)
            raise
        finally:
            lease.give_back()

    async def _stream(self, lease: Lease, app: AppRef, request: InvokeRequest) -> InvokeResponse:
        message = request_message(request, app, self._forwarded)
        metadata = _metadata(app, request)
        call = lease.client.stream(CALL_LOCAL_STREAM, request_pieces(message, request.body), metadata)
        messages = cast("AsyncGenerator[bytes]", call.messages())
        try:
            first = await anext(messages, None)
        except GrpcError as error:
            if error.code is not GrpcCode.UNIMPLEMENTED:
                raise
            return await self._whole(lease, message, metadata, request)
        except BaseException:
            await messages.aclose()
            raise
        try:
            return await self._answer(lease, first, messages)
        except BaseException:
            await messages.aclose()
            raise

    async def _answer(self, lease: Lease, first: bytes | None, messages: AsyncGenerator[bytes]) -> InvokeResponse:
        """The answer that begins with this message. Raises `ChannelError`, `BodyError`."""
        try:
            leading = internals_pb.InternalInvokeResponseStream.FromString(first or b"")
        except DecodeError as error:
            raise ChannelError("the answer is no InternalInvokeResponseStream") from error
        payload = leading.payload if leading.HasField("payload") else None
        length = announced_length(leading.response)
        body = PieceBody(messages, response_payload, payload, content_length=length, ended=lease.give_back)
        answer = received_response(leading.response, body)
        if answer.body is not body:  # the status of a gRPC app says it all
            await body.aclose()
        elif length is not None:
            answer.body = await body.settled(length, whole=False)
        return answer

    async def _whole(
        self, lease: Lease, message: internals_pb.InternalInvokeRequest, metadata: Metadata, request: InvokeRequest
    ) -> InvokeResponse:
        """The same call with whole bodies: for a peer too old to know better."""
        if not isinstance(request.body, bytes):
            raise ChannelError("the peer is running a version of Dapr that does not support streaming")
        message.message.data.value = request.body
        answer = await lease.client.unary(CALL_LOCAL, message.SerializeToString(), metadata)
        try:
            response = internals_pb.InternalInvokeResponse.FromString(answer.data)
        except DecodeError as error:
            raise ChannelError("the answer is no InternalInvokeResponse") from error
        made = received_response(response, response.message.data.value)
        lease.give_back()
        return made

    def _lost(self, app: AppRef, address: str) -> None:
        self._names.forget(app)
        self._connections.reconnect(address)


def _metadata(app: AppRef, request: InvokeRequest) -> Metadata:
    """What goes beside the messages: the trace, for who traces the call, and the namespace."""
    metadata: list[tuple[str, str | bytes]] = [(CALLEE_NAMESPACE, app.namespace)]
    for name, value in request.headers:
        if name == b"traceparent":
            try:
                metadata += [("traceparent", value.decode("ascii")), ("grpc-trace-bin", grpc_trace_bin(value))]
            except ValueError:  # tracing is off, and the caller's own is none
                continue
        elif name == b"tracestate" and value.isascii():
            metadata.append(("tracestate", value.decode("ascii")))
    return metadata


def _failure(error: GrpcError, address: str) -> ChannelError:
    text = f"rpc error: code = {GRPC_STATUS_NAMES[error.code]} desc = {error.message}"
    if error.code in _LOST:
        return AppUnreachableError(f"{address}: {text}")
    if error.code is GrpcCode.PERMISSION_DENIED:
        return CallDeniedError(text)
    if error.code is GrpcCode.DEADLINE_EXCEEDED:
        return AppTimeoutError(text)
    return ChannelError(text)
