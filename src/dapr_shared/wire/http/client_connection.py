"""One connection of the client: a request out, its answer in, and whether the connection may be used again.

Last step of the delivery road and of an invocation. Whatever is odd about an answer (early, surplus bytes, a body that
must not be there, framing that can be read in two ways) ends the connection: a connection goes back to the pool only
when it is certain that the next bytes on it belong to the next answer.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import TYPE_CHECKING, Final, cast

from dapr_shared.wire.http.body import IncomingBody
from dapr_shared.wire.http.client_errors import (
    ConnectionLostError,
    HttpClientError,
    RequestBodyError,
    ResponseProtocolError,
    ResponseTooLargeError,
)
from dapr_shared.wire.http.client_response import ClientResponse, close_body
from dapr_shared.wire.http.framing import ChunkedDecoder, EndlessDecoder, LengthDecoder
from dapr_shared.wire.http.head import END_OF_HEAD, HeadError, ResponseHead, ResponseHeads, hopeless
from dapr_shared.wire.http.messages import WHOLE_BODY_LIMIT, BodyError
from dapr_shared.wire.http.outgoing import write_chunk, write_whole

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Protocol

    from dapr_shared.wire.http.limits import ClientLimits

    class Pool(Protocol):
        """Where a connection comes from, as the connection sees it."""

        def connection_free(self, connection: ClientConnection) -> None:
            """The connection may carry another request."""
            ...

        def connection_ended(self, connection: ClientConnection) -> None:
            """The connection is closed."""
            ...

        def connection_opened(self, connection: ClientConnection) -> None:
            """The connection is open."""
            ...


_INTERIM_LIMIT: Final = 8
"""1xx answers that may come before the answer."""
_VERSION: Final = b"HTTP/1."


class _Phase(IntEnum):
    IDLE = 1
    WAITING = 2
    WHOLE = 3
    STREAM = 4
    CLOSED = 5


class ClientConnection(asyncio.Protocol):
    """The client's protocol class. One request at a time."""

    __slots__ = (
        "_answer", "_body", "_buffer", "_endless", "_head", "_heads", "_interim", "_left", "_limits", "_method", "_parts",
        "_phase", "_pool", "_reading_paused", "_reusable", "_sender", "_sent", "_transport",
        "_write_paused", "_write_waiter", "answering", "expires", "far_deadline",
        "idle_since",
    )  # fmt: skip

    def __init__(self, pool: Pool, limits: ClientLimits) -> None:
        self._pool = pool
        self._limits = limits
        self._transport: asyncio.Transport | None = None
        self._phase = _Phase.IDLE
        self.expires = 0.0
        """Loop time after which no further request is sent on it."""
        self.idle_since = 0.0
        self.far_deadline: float | None = None
        """Loop time at which the present answer is given up, if that is far (see `deadlines`)."""
        self.answering = False
        """Whether any byte of the present answer has come."""
        self._answer: asyncio.Future[ClientResponse] | None = None
        self._method = ""
        self._buffer = b""
        self._interim = 0
        self._head: ResponseHead | None = None
        self._heads = ResponseHeads()
        self._reusable = False
        self._left = 0
        self._parts: list[bytes] = []
        self._body: IncomingBody | None = None
        self._endless = False
        """Whether the answer's body ends with the connection."""
        self._sent = True
        """Whether the whole request has been handed to the transport."""
        self._sender: asyncio.Task[None] | None = None
        self._reading_paused = False
        self._write_paused = False
        self._write_waiter: asyncio.Future[None] | None = None

    # Called by the event loop ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        if self._phase is _Phase.CLOSED:
            self._transport.abort()
        else:
            self._pool.connection_opened(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes, by phase."""
        phase = self._phase
        if phase is _Phase.WAITING:
            self.answering = True
            self._on_head(self._buffer + data if self._buffer else data)
        elif phase is _Phase.STREAM:
            self._on_body(data)
        elif phase is _Phase.WHOLE:
            self._on_part(data)
        elif phase is _Phase.IDLE:
            self.abort()  # nobody asked: what it is an answer to, nobody can know

    def eof_received(self) -> None:
        """The origin sends no more."""
        if self._phase is _Phase.STREAM and self._endless and self._body is not None:
            self._body.finish()  # the end of the connection is the end of this body
            self._phase = _Phase.CLOSED
            self._stop_sender()
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is in progress and leave the pool."""
        detail = f": {exc}" if exc is not None else ""
        self._lose(ConnectionLostError(f"the origin closed the connection{detail}", sent=True))
        self._pool.connection_ended(self)

    def pause_writing(self) -> None:
        """The origin reads slower than we write."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """Room again."""
        self._write_paused = False
        waiter, self._write_waiter = self._write_waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # Called by the client --------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether it was ever connected."""
        return self._transport is not None

    @property
    def usable(self) -> bool:
        """Whether it is idle and open."""
        return self._phase is _Phase.IDLE and self._transport is not None and not self._transport.is_closing()

    @property
    def waits(self) -> bool:
        """Whether somebody waits for the head of an answer, or for all of a short one."""
        return self._answer is not None

    @property
    def sender(self) -> asyncio.Task[None] | None:
        """The task that is sending a streamed body."""
        return self._sender

    def abort(self) -> None:
        """Close at once; what is in progress fails when the loop reports the loss."""
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: HttpClientError) -> None:
        """Give up what is in progress, with this error, and close."""
        self._lose(error)
        self.abort()

    def abandon(self) -> None:
        """Nobody waits for this connection any more; should it still open, it closes at once."""
        self._phase = _Phase.CLOSED

    def give_up(self, answer: asyncio.Future[ClientResponse], error: HttpClientError) -> None:
        """Give up waiting for this answer; too late, the connection may already carry another request."""
        if self._answer is answer:
            self.fail(error)

    def begin(
        self, method: str, head: bytes, body: bytes, loop: asyncio.AbstractEventLoop
    ) -> asyncio.Future[ClientResponse]:
        """Send a whole request; the future is its answer."""
        self._sent = True
        write_whole(self._begin(method), head, body)
        answer = self._answer = loop.create_future()
        return answer

    def begin_stream(
        self, method: str, head: bytes, body: AsyncIterator[bytes], length: int | None, loop: asyncio.AbstractEventLoop
    ) -> asyncio.Future[ClientResponse]:
        """Send a request whose body is an iterator, of `length` bytes or, with `None`, chunked."""
        self._begin(method).write(head)
        self._sent = False
        answer = self._answer = loop.create_future()
        self._sender = loop.create_task(self._send(body, length))
        return answer

    def _begin(self, method: str) -> asyncio.Transport:
        self._phase = _Phase.WAITING
        self._method = method
        self._interim = 0
        self.answering = False
        self.far_deadline = None
        return cast("asyncio.Transport", self._transport)

    # The request's body ----------------------------------------------------------------------------------------------

    async def _send(self, body: AsyncIterator[bytes], length: int | None) -> None:
        try:
            await self._send_pieces(body, length)
        except Exception as error:  # noqa: BLE001 - whatever the caller's iterator raises is handed back as the cause
            self._sender = None
            self.fail(RequestBodyError(error))
        else:
            self._sender = None
            self._sent = True
        finally:
            await close_body(body)

    async def _send_pieces(self, body: AsyncIterator[bytes], length: int | None) -> None:
        transport = cast("asyncio.Transport", self._transport)
        sent = 0
        async for piece in body:
            if not piece:
                continue
            sent += len(piece)
            if length is None:
                write_chunk(transport, piece)
            elif sent > length:
                raise ValueError("it is longer than its content-length")
            else:
                transport.write(piece)
            while self._write_paused:
                self._write_waiter = asyncio.get_running_loop().create_future()
                await self._write_waiter
        if length is None:
            transport.write(b"0\r\n\r\n")
        elif sent != length:
            raise ValueError("it is shorter than its content-length")

    def _stop_sender(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.cancel()

    # The answer ------------------------------------------------------------------------------------------------------

    def _on_head(self, data: bytes) -> None:
        while True:
            end = data.find(END_OF_HEAD) + 4
            size = len(data)
            if (end if end >= 4 else size) > self._limits.header_bytes:
                self.fail(ResponseTooLargeError("the answer's head is too long"))
                return
            if end < 4:
                if data[:7] != _VERSION[: len(data)] or hopeless(data, len(self._buffer)):
                    self.fail(ResponseProtocolError("not an HTTP/1.1 answer"))
                else:
                    self._buffer = data
                return
            try:
                head = self._heads.read(data if end == size else data[:end])
            except HeadError as error:
                self.fail(ResponseProtocolError(error.reason))
                return
            rest = b"" if end == size else data[end:]
            if head.status >= 200:
                break
            self._interim += 1
            if head.status == 101 or self._interim > _INTERIM_LIMIT:
                self.fail(ResponseProtocolError(f"unexpected {head.status} answer"))
                return
            self._buffer = b""
            if not rest:
                return
            data = rest
        self._buffer = b""
        self._begin_answer(head, rest)

    def _begin_answer(self, head: ResponseHead, rest: bytes) -> None:
        transport = cast("asyncio.Transport", self._transport)
        # An answer before the end of the request: the request may be cut off, so that the origin may take what comes
        # next for the rest of it.
        self._reusable = head.keep_alive and self._sent and not transport.get_write_buffer_size()
        length = head.content_length
        if self._method == "HEAD" or head.status in {204, 304}:
            if length or head.chunked:
                self._reusable = False  # the body that must not be there may still be on its way
            self._complete(head, b"", rest)
            return
        limit = self._limits.body_bytes
        if length is None:
            self._begin_stream_answer(head, rest)
        elif limit and length > limit:
            self.fail(ResponseTooLargeError(f"the answer's body is longer than {limit} bytes"))
        elif length > WHOLE_BODY_LIMIT:
            self._begin_stream_answer(head, rest)
        elif (came := len(rest)) == length:
            self._complete(head, rest, b"")
        elif came > length:
            self._complete(head, rest[:length], rest[length:])
        else:
            self._phase = _Phase.WHOLE
            self._head = head
            self._left = length
            self._on_part(rest)

    def _on_part(self, data: bytes) -> None:
        """Collect a small body."""
        if len(data) < self._left:
            self._left -= len(data)
            self._parts.append(data)
            return
        self._parts.append(data[: self._left])
        body = b"".join(self._parts)
        self._parts.clear()
        head, self._head = self._head, None
        if head is not None:
            self._complete(head, body, data[self._left :])

    def _complete(self, head: ResponseHead, body: bytes, rest: bytes) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(ClientResponse(head.status, head.headers.copy(), body))
        self._end(rest)

    def _end(self, rest: bytes) -> None:
        """The answer is complete: back to the pool, if nothing is odd about it."""
        if rest or not self._reusable or self._sender is not None:
            self._phase = _Phase.CLOSED
            self._stop_sender()
            self.abort()
            return
        self._phase = _Phase.IDLE
        self._body = None
        if self._reading_paused:
            self._resume_reading()
        self._pool.connection_free(self)

    def _begin_stream_answer(self, head: ResponseHead, rest: bytes) -> None:
        length = head.content_length
        self._endless = length is None and not head.chunked
        if self._endless:
            decoder = EndlessDecoder()
        else:
            decoder = ChunkedDecoder(self._limits.header_bytes) if length is None else LengthDecoder(length)
        body = self._body = IncomingBody(self, length, decoder, self._limits.body_bytes)
        self._phase = _Phase.STREAM
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(ClientResponse(head.status, head.headers.copy(), body))
        if rest:
            self._on_body(rest)

    def _on_body(self, data: bytes) -> None:
        """Pass on a piece of a streamed body."""
        body = cast("IncomingBody", self._body)
        body.feed(data)
        if body.error is not None:
            self.body_dropped()
        elif body.ended:
            self._end(body.rest)

    def _lose(self, error: HttpClientError) -> None:
        """Fail what is in progress."""
        self._phase = _Phase.CLOSED
        self._buffer = b""
        self._parts.clear()
        self._stop_sender()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)
        if self._body is not None:
            broken = BodyError(f"the answer broke off: {error}")
            broken.__cause__ = error
            self._body.fail(broken)

    # Called by the body of the answer --------------------------------------------------------------------------------

    def body_wanted(self) -> None:
        """The reader waits; how long is its own affair (an event stream may be silent for hours)."""

    def body_full(self) -> None:
        """Enough is held."""
        if self._transport is not None and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def body_drained(self) -> None:
        """Room again."""
        if self._reading_paused:
            self._resume_reading()

    def body_dropped(self) -> None:
        """The reader does not want the rest: the connection cannot be used again."""
        self._phase = _Phase.CLOSED
        self._stop_sender()
        self.abort()

    def _resume_reading(self) -> None:
        self._reading_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
