"""Transparent proxying: a call of any kind and any method, passed on to another server without knowing its messages.

On the request road between the front door and the app channel or a peer. Everything crosses unchanged: messages in
both directions as they come, half-close, response headers, trailers and status with its details, the deadline, and
cancellation. Nothing is buffered: one message is read when the one before was taken, so a slow side slows the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.wire.grpc.messages import close

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from dapr_shared.wire.grpc.interface import Call, Client, Metadata


async def relay(
    call: Call,
    messages: AsyncIterator[bytes],
    client: Client,
    method: str,
    metadata: Metadata,
    *,
    unary_timeout: float | None = None,
) -> AsyncGenerator[bytes]:
    """Pass `call` on to `method` of `client` with `metadata`; the answers are what a bidirectional handler yields.

    `unary_timeout`: seconds that bound the whole call, next to the client's own deadline; give it only for calls that
    are not streams. Raises `GrpcError` as the upstream answered it, with its trailers.
    """
    bounds = [bound for bound in (call.time_remaining(), unary_timeout) if bound is not None]
    upstream = client.stream(method, messages, metadata, timeout=min(bounds, default=None))
    try:
        # Headers go out before the first message: a client may wait for them before it sends.
        await call.send_initial_metadata(await upstream.initial_metadata())
        answers = upstream.messages()
        try:
            async for message in answers:
                yield message
        finally:
            await close(answers)
        call.set_trailing_metadata(upstream.trailers())
    finally:
        upstream.cancel()
