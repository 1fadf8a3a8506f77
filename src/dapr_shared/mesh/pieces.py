"""Bodies in pieces, as `CallLocalStream` carries them both ways (reference internal §3).

Step 6c of the request road, on both ends. One piece is read when the one before was taken, so that a slow reader slows
the sender down; nothing is held but one piece, and 64 KiB where a short body is read ahead to go on whole.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from google.protobuf.message import DecodeError

from dapr_shared._proto import common_pb, internals_pb
from dapr_shared.wire.grpc.interface import GrpcError
from dapr_shared.wire.grpc.messages import close
from dapr_shared.wire.http.messages import WHOLE_BODY_LIMIT, BodyError, BodyTooLargeError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from dapr_shared.wire.http.messages import Body

PIECE_BYTES: Final = 64 * 1024
"""Longest piece that is sent. daprd sends 2 KiB, and takes what its own limit of a body lets through."""
EMPTY_PATIENCE: Final = 0.2
"""Seconds to wait for the first piece of a body that announced no length: without one the request has no body. Go's
client waits as long before it sends one in chunks."""

Payload: TypeAlias = common_pb.StreamPayload


def request_payload(data: bytes) -> Payload | None:
    """The part of the body in a message of a request that is not its first. Raises `BodyError`."""
    try:
        message = internals_pb.InternalInvokeRequestStream.FromString(data)
    except DecodeError as error:
        raise BodyError("a message of the stream is no piece of a request") from error
    if message.request.metadata or message.request.HasField("message"):
        raise BodyError("request metadata found in non-leading chunk")
    return message.payload if message.HasField("payload") else None


def response_payload(data: bytes) -> Payload | None:
    """The part of the body in a message of an answer that is not its first. Raises `BodyError`.

    daprd sends an empty response with each piece of an event stream.
    """
    try:
        message = internals_pb.InternalInvokeResponseStream.FromString(data)
    except DecodeError as error:
        raise BodyError("a message of the stream is no piece of an answer") from error
    response = message.response
    if response.HasField("status") or response.headers or response.HasField("message"):
        raise BodyError("response metadata found in non-leading chunk")
    return message.payload if message.HasField("payload") else None


class PieceBody:
    """A `BodyStream` that arrives in pieces; see there for what readers may expect."""

    def __init__(
        self,
        messages: AsyncIterator[bytes],
        payload_of: Callable[[bytes], Payload | None],
        first: Payload | None,
        *,
        content_length: int | None = None,
        limit: int = 0,
        ended: Callable[[], None] | None = None,
    ) -> None:
        """`first` came with the leading message. `limit`: bytes, 0 for none. `ended` is called once, when nobody reads on.

        `content_length`: what the body must have; `None` where what was announced is a hint alone (`settled`), because
        something on the way may have changed the body.

        Raises `BodyError` for a first piece that is not the first, `BodyTooLargeError`.
        """
        self.content_length = content_length
        self._messages = messages
        self._payload_of = payload_of
        self._limit = limit
        self._ended = ended
        self._received = 0
        self._next = 0
        self._ahead: deque[bytes] = deque()
        self._waiting: asyncio.Task[bytes | None] | None = None
        self._error: BodyError | None = None
        self._over = False
        if first is not None and (piece := self._accepted(first)):
            self._ahead.append(piece)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._ahead:
            return self._ahead.popleft()
        piece = await self._piece()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def read(self, limit: int) -> bytes:
        """All of it; see `BodyStream.read`."""
        pieces: list[bytes] = []
        size = 0
        async for piece in self:
            size += len(piece)
            if size > limit:
                raise BodyTooLargeError(f"the body is longer than {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def aclose(self) -> None:
        """Read no further; see `BodyStream.aclose`."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        self._ahead.clear()
        if not self._over and self._error is None:
            self._error = BodyError("the body was closed")
        await close(self._messages)
        self._end()

    async def settled(self, length: int | None, *, whole: bool, exact: bool = False) -> Body:
        """The body as it goes on best: whole where it is short, so that the app is told its length.

        `length`: what the caller announced. `whole`: its sender had all of it before sending, so that its end is not far.
        `exact`: the length is no hint, so that its end need not be waited for. Raises what reading raises.
        """
        if exact and length == self._received:
            held, self._ahead = self._ahead, deque[bytes]()
            return b"".join(held)
        if length is None and not whole and not self._ahead:
            self._waiting = asyncio.ensure_future(self._message())
            done, _ = await asyncio.wait({self._waiting}, timeout=EMPTY_PATIENCE)
            if not done or self._waiting.exception() is not None or self._waiting.result() is not None:
                return self
            return await self.read(0)
        if (length is None and not whole) or (length is not None and length > WHOLE_BODY_LIMIT):
            return self
        while self._received <= WHOLE_BODY_LIMIT:
            piece = await self._piece()
            if piece is None:
                held, self._ahead = self._ahead, deque[bytes]()
                return b"".join(held)
            self._ahead.append(piece)
        return self

    async def _piece(self) -> bytes | None:
        """The next piece that is not empty; `None` at the end."""
        while not self._over:
            if self._error is not None:
                raise self._error
            try:
                waiting, self._waiting = self._waiting, None
                data = await (waiting or self._message())
                if data is None:
                    self._complete()
                    break
                payload = self._payload_of(data)
                piece = self._accepted(payload) if payload is not None else b""
            except GrpcError as error:
                broken = BodyError(f"the body broke off: {error}")
                self._fail(broken)
                raise broken from error
            except BodyError as error:
                self._fail(error)
                raise
            if piece:
                return piece
        return None

    async def _message(self) -> bytes | None:
        try:
            return await anext(self._messages)
        except StopAsyncIteration:
            return None

    def _accepted(self, payload: Payload) -> bytes:
        if payload.seq != self._next:
            raise BodyError(f"invalid sequence number received: {payload.seq} (expected: {self._next})")
        self._next += 1
        piece = payload.data
        self._received += len(piece)
        if self._limit and self._received > self._limit:
            raise BodyTooLargeError(f"the body is longer than {self._limit} bytes")
        return piece

    def _complete(self) -> None:
        expected = self.content_length
        if expected is not None and self._received != expected:
            raise BodyError(f"the body ended after {self._received} of {expected} bytes")
        self._over = True
        self._end()

    def _fail(self, error: BodyError) -> None:
        self._error = error
        self._end()

    def _end(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()


def request_pieces(message: internals_pb.InternalInvokeRequest, body: Body) -> AsyncGenerator[bytes]:
    """A request as messages. Raises `BodyError` when a body that is streamed breaks off."""
    return _pieces(internals_pb.InternalInvokeRequestStream(request=message), body)


def response_pieces(
    message: internals_pb.InternalInvokeResponse, body: Body | AsyncIterator[bytes]
) -> AsyncGenerator[bytes]:
    """An answer as messages. Raises `BodyError` when a body that is streamed breaks off."""
    return _pieces(internals_pb.InternalInvokeResponseStream(response=message), body)


async def _pieces(
    leading: internals_pb.InternalInvokeRequestStream | internals_pb.InternalInvokeResponseStream,
    body: Body | AsyncIterator[bytes],
) -> AsyncGenerator[bytes]:
    kind = type(leading)
    sequence = 0
    if isinstance(body, bytes):
        if body:
            leading.payload.data = body[:PIECE_BYTES]
            sequence = 1
        yield leading.SerializeToString()
        for start in range(PIECE_BYTES, len(body), PIECE_BYTES):
            piece = Payload(data=body[start : start + PIECE_BYTES], seq=sequence)
            yield kind(payload=piece).SerializeToString()
            sequence += 1
        return
    yield leading.SerializeToString()  # at once: the other side may act before the body has come
    async for part in body:
        for start in range(0, len(part), PIECE_BYTES):
            piece = Payload(data=part[start : start + PIECE_BYTES], seq=sequence)
            yield kind(payload=piece).SerializeToString()
            sequence += 1
