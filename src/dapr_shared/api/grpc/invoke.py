"""InvokeService, and proxying of gRPC services that only apps know. Facts: reference grpc-api §1.2, §1.4, §1.5."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared._proto import common_pb, runtime_pb
from dapr_shared.api.errors import STATUS_DETAILS, grpc_error_of_http
from dapr_shared.api.grpc.call import GrpcCall, UnaryMethod, unary
from dapr_shared.core import errors
from dapr_shared.wire.grpc.interface import GrpcError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from dapr_shared.blocks.invoke import InvokeBlock
    from dapr_shared.wire.grpc.interface import Metadata
    from dapr_shared.wire.http.messages import Body, Headers


class InvokeRpc:
    """Turns InvokeService into calls of the invoke block."""

    def __init__(self, block: InvokeBlock, *, body_limit: int) -> None:
        self._block = block
        self._body_limit = body_limit

    def methods(self) -> Sequence[UnaryMethod]:
        return [unary("InvokeService", runtime_pb.InvokeServiceRequest, self.invoke, "invoke")]

    async def invoke(self, call: GrpcCall, request: runtime_pb.InvokeServiceRequest) -> common_pb.InvokeResponse:
        message = request.message
        verb = _verb(message.http_extension.verb)
        headers = http_headers(call.wire.metadata)
        if message.content_type:
            headers.append((b"content-type", message.content_type.encode()))
        answer = await self._block.invoke(
            call.caller,
            request.id,
            message.method,
            verb=verb,
            query=message.http_extension.querystring.encode(),
            headers=headers,
            body=message.data.value,
            trace=call.trace,
        )
        body = await _whole(answer.body, self._body_limit)
        initial = _metadata(answer.headers)
        if answer.grpc_status is not None:
            code, text, details = answer.grpc_status
            await call.wire.send_initial_metadata(initial)
            if code:
                raise GrpcError(code, text, trailers=((STATUS_DETAILS, details),) if details else ())
            call.wire.set_trailing_metadata(_metadata(answer.trailers))
        else:
            await call.wire.send_initial_metadata([*initial, ("dapr-http-status", str(answer.status))])
            if not 200 <= answer.status <= 299:
                raise grpc_error_of_http(answer.status, body)
        response = common_pb.InvokeResponse(content_type=(answer.content_type or b"").decode("latin-1"))
        response.data.value = body
        return response


class ProxyRpc:
    """Relays calls of services that the API does not have to the app that `dapr-app-id` names."""

    def __init__(self, block: InvokeBlock) -> None:
        self._block = block

    def relay(self, call: GrpcCall, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """Pass the call on, message by message, and the answer back. Raises `PROXY_NO_TARGET`."""
        target = _target(call.wire.metadata)
        if not target:
            raise errors.PROXY_NO_TARGET()
        return self._block.proxy(call.caller, target, call.wire, messages, call.trace)


def _verb(number: int) -> str:
    """The HTTP verb; none means POST. Raises `BAD_REQUEST` for a number without a name, as proto3 enums are open."""
    try:
        verb = common_pb.HTTPExtension.Verb.Name(number)
    except ValueError as error:
        raise errors.BAD_REQUEST(detail=f"there is no HTTP verb of the number {number}") from error
    return "POST" if verb == "NONE" else verb


def http_headers(metadata: Metadata) -> Headers:
    """Text metadata as headers; binary values (`-bin`) do not cross to HTTP (reference http-api §3)."""
    return [(key.encode(), value.encode("utf-8")) for key, value in metadata if isinstance(value, str)]


def _metadata(headers: Headers) -> Metadata:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _target(metadata: Metadata) -> str:
    found = dict[str, str]()
    for key, value in metadata:
        if isinstance(value, str):
            found.setdefault(key, value)
    return found.get("dapr-callee-app-id") or found.get("dapr-app-id") or ""


async def _whole(body: Body | AsyncIterator[bytes], limit: int) -> bytes:
    if isinstance(body, bytes):
        return body
    parts: list[bytes] = []
    size = 0
    try:
        async for part in body:
            size += len(part)
            if limit and size > limit:
                raise errors.BODY_READ(detail=f"the app's answer is larger than {limit} bytes")
            parts.append(part)
    finally:
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()
    return b"".join(parts)
