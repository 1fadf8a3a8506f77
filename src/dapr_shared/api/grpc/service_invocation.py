"""The front door for other instances and daprd sidecars: `ServiceInvocation`, and calls relayed to gRPC apps.

First step of the request road where the request comes from a peer (reference internal §3). Nothing proves who calls; what
a peer says of it goes on as a claim. There is no token here: who may reach the port may call, as with daprd.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from time import perf_counter
from typing import TYPE_CHECKING, Final, cast

from google.protobuf.message import DecodeError

from dapr_shared._proto import SERVICES, internals_pb
from dapr_shared.api.errors import grpc_error
from dapr_shared.api.trace import trace_of_grpc
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError, GrpcCode
from dapr_shared.identity.caller import ClaimedCaller
from dapr_shared.mesh.messages import (
    CALL_LOCAL,
    CALL_LOCAL_STREAM,
    CALLEE_NAMESPACE,
    SERVICE,
    ReceivedRequest,
    response_message,
)
from dapr_shared.mesh.pieces import PieceBody, request_payload, response_pieces
from dapr_shared.wire.grpc.interface import Call, GrpcError, Kind, Method
from dapr_shared.wire.http.messages import BodyError, BodyStream, BodyTooLargeError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
    from typing import TypeAlias

    from dapr_shared.api.observed import Observed
    from dapr_shared.blocks.invoke_received import ReceivedCalls
    from dapr_shared.contracts.invocation import InvokeResponse
    from dapr_shared.wire.grpc.interface import BidiHandler, UnaryHandler
    from dapr_shared.wire.http.messages import Body, Headers

    Answering: TypeAlias = Callable[["_Peer", Call, AsyncIterator[bytes]], AsyncGenerator[bytes]]

_PROXY: Final = "proxy"
_LONGEST_CLAIM: Final = 253
_UNLIMITED: Final = 2**31 - 1


class _Peer:
    """What the front door learns of a call while it is answered, for counting."""

    __slots__ = ("callee",)

    def __init__(self) -> None:
        self.callee = ""


class PeerFrontDoor:
    """The method table of the internal listener, and the handler of methods that are none of ours."""

    def __init__(self, block: ReceivedCalls, observed: Observed, *, body_limit: int) -> None:
        """`body_limit`: bytes of a request's body, 0 for none."""
        self._block = block
        self._metrics = observed.metrics
        self._tracing = observed.tracing
        self._events = observed.events
        self._body_limit = body_limit

    def table(self) -> Sequence[Method]:
        """The methods to register with an engine: all of `ServiceInvocation`, implemented or not."""
        rows: list[Method] = []
        for row in SERVICES[SERVICE].methods.values():
            if row.path == CALL_LOCAL:
                rows.append(Method(row.path, Kind.UNARY, self._call_local()))
            elif row.path == CALL_LOCAL_STREAM:
                rows.append(Method(row.path, Kind.BIDI, self._counted(row.path, self._stream)))
            else:
                rows.append(Method(row.path, Kind.BIDI, self._counted(row.path, self._unimplemented)))
        return rows

    def unknown(self) -> BidiHandler:
        """Make the handler of all other methods: they are relayed to an app."""
        return self._counted(_PROXY, self._proxy)

    def _call_local(self) -> UnaryHandler:
        inner = self._counted(CALL_LOCAL, self._whole)

        async def handler(call: Call, data: bytes) -> bytes:
            async with aclosing(cast("AsyncGenerator[bytes]", inner(call, _one(data)))) as answers:
                answer = b""
                async for message in answers:  # to its end, so that it is counted as complete
                    answer = message
                return answer

        return handler

    def _counted(self, path: str, answering: Answering) -> BidiHandler:
        async def handler(call: Call, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
            started = perf_counter()
            code = GrpcCode.OK
            peer = _Peer()
            try:
                async with aclosing(answering(peer, call, messages)) as answers:
                    async for message in answers:
                        yield message
            except (asyncio.CancelledError, GeneratorExit):
                code = GrpcCode.CANCELLED
                raise
            except GrpcError as error:
                code = error.code
                raise
            except (DaprError, DecodeError, BodyError) as error:
                failure = _failure(error)
                code = failure.code
                raise failure from error
            finally:
                milliseconds = (perf_counter() - started) * 1000
                self._metrics.grpc_request(peer.callee, path, code).record(milliseconds, 0, 0)

        return handler

    async def _stream(self, peer: _Peer, call: Call, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        first = await anext(messages, None)
        leading = internals_pb.InternalInvokeRequestStream.FromString(first or b"")
        request = leading.request
        if not request.metadata or not request.HasField("message"):
            raise errors.PEER_CALL_INVALID(detail="request does not contain the required fields in the leading chunk")
        received = ReceivedRequest(request)
        payload = leading.payload if leading.HasField("payload") else None
        if payload is None and request.message.data.value:  # whole, in the message itself
            payload = internals_pb.InternalInvokeRequestStream().payload
            payload.data = request.message.data.value
        body = PieceBody(messages, request_payload, payload, limit=self._body_limit)
        try:
            # Of an instance's own making, the length is that of the body; a sidecar's may be of what it was before.
            ours = bool(_text(call, CALLEE_NAMESPACE))
            settled = await body.settled(received.content_length, whole=received.from_grpc, exact=ours)
            answer = await self._invoke(peer, call, received, settled)
            async with _closing(answer) as (message, answered), aclosing(response_pieces(message, answered)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            await body.aclose()

    async def _whole(self, peer: _Peer, call: Call, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        request = internals_pb.InternalInvokeRequest.FromString(await anext(messages))
        if not request.HasField("message"):
            raise errors.PEER_CALL_INVALID(detail="field Message is nil")
        received = ReceivedRequest(request)
        data = request.message.data.value
        if self._body_limit and len(data) > self._body_limit:
            raise BodyTooLargeError(f"the body is longer than {self._body_limit} bytes")
        answer = await self._invoke(peer, call, received, data)
        async with _closing(answer) as (message, body):
            message.message.data.value = (
                body if isinstance(body, bytes) else await body.read(self._body_limit or _UNLIMITED)
            )
            yield message.SerializeToString()

    async def _invoke(self, peer: _Peer, call: Call, received: ReceivedRequest, body: Body) -> InvokeResponse:
        claimed = ClaimedCaller(_claim(received.caller), _claim(received.caller_namespace))
        callee = self._block.callee(claimed, received.callee, _text(call, CALLEE_NAMESPACE))
        peer.callee = callee.app_id
        return await self._block.invoke(
            claimed,
            callee,
            received.method,
            verb=received.verb,
            query=received.query,
            headers=received.headers,
            body=body,
            content_type=received.content_type,
            trace=self._trace(call, received.headers),
            api=call.method,
        )

    async def _proxy(self, peer: _Peer, call: Call, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        target = _text(call, "dapr-callee-app-id") or _text(call, "dapr-app-id")
        if not target:
            raise errors.PROXY_NO_TARGET()
        # A sidecar adds its own word behind what its app may have written.
        claimed = ClaimedCaller(
            _claim(_text(call, "dapr-caller-app-id", last=True)),
            _claim(_text(call, "dapr-caller-namespace", last=True)),
        )
        app_id, _, namespace = target.partition(".")
        callee = self._block.callee(claimed, app_id, _text(call, CALLEE_NAMESPACE) or namespace)
        peer.callee = callee.app_id
        trace = self._trace(call, [])
        async with aclosing(self._block.proxy(claimed, callee, call, messages, trace)) as answers:
            async for message in answers:
                yield message

    async def _unimplemented(
        self,
        peer: _Peer,  # noqa: ARG002 - as the others
        call: Call,
        messages: AsyncIterator[bytes],  # noqa: ARG002 - never read
    ) -> AsyncGenerator[bytes]:
        raise errors.UNIMPLEMENTED(api=call.method.rpartition("/")[2])
        yield b""  # makes this an asynchronous generator

    def _trace(self, call: Call, headers: Headers) -> Headers:
        """The trace beside the message; where there is none, that of the caller's own headers."""
        given = [value for key, value in call.metadata if key in ("traceparent", "grpc-trace-bin")]
        if given:
            return trace_of_grpc(self._tracing, call.metadata)[1]
        kept = [(name.decode(), value.decode("latin-1")) for name, value in headers if name.startswith(b"trace")]
        return trace_of_grpc(self._tracing, kept)[1]


class _closing:  # noqa: N801 - used as `contextlib.closing` is
    """An answer as message and body; a body that streams is closed at the end."""

    def __init__(self, answer: InvokeResponse) -> None:
        self._answer = answer

    async def __aenter__(self) -> tuple[internals_pb.InternalInvokeResponse, Body]:
        answer = self._answer
        # The JSON of a gRPC app's status is for HTTP callers: the status itself is in the message.
        failed = answer.grpc_status is not None and answer.grpc_status[0] is not GrpcCode.OK
        return response_message(answer), b"" if failed else cast("Body", answer.body)

    async def __aexit__(self, *_: object) -> None:
        if not isinstance(self._answer.body, bytes):
            await cast("BodyStream", self._answer.body).aclose()


async def _one(data: bytes) -> AsyncGenerator[bytes]:
    yield data


def _failure(error: Exception) -> GrpcError:
    if isinstance(error, DaprError):
        return grpc_error(error)
    if isinstance(error, BodyTooLargeError):
        return GrpcError(GrpcCode.RESOURCE_EXHAUSTED, str(error))
    if isinstance(error, BodyError):
        return GrpcError(GrpcCode.INTERNAL, str(error))
    return grpc_error(errors.PEER_CALL_INVALID(detail="the message is none of ServiceInvocation"))


def _claim(text: str) -> str:
    """A claim as it can stand in a header and a label; anything else counts as none."""
    return text if len(text) <= _LONGEST_CLAIM and text.isascii() and text.isprintable() else ""


def _text(call: Call, name: str, *, last: bool = False) -> str:
    values = [value for key, value in call.metadata if key == name and isinstance(value, str)]
    return values[-1 if last else 0] if values else ""
