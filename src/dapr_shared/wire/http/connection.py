"""One connection of the server: the event loop's events, the handler's task, and answers out.

First step of the request road, and its last. The reading half is `intake.py`.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Final, cast

from dapr_shared.wire.http.answer import has_no_body, refusal, stream_head, whole_head
from dapr_shared.wire.http.body import IncomingBody
from dapr_shared.wire.http.intake import Phase, RequestIntake
from dapr_shared.wire.http.messages import BodyError, Request, Response
from dapr_shared.wire.http.outgoing import write_chunk, write_whole
from dapr_shared.wire.peer import PeerAddress
from dapr_shared.wire.tls import peer_certificate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dapr_shared.wire.http.answer import StreamHead
    from dapr_shared.wire.http.head import RequestHead
    from dapr_shared.wire.http.messages import Body
    from dapr_shared.wire.http.server import ServerState
    from dapr_shared.wire.tls import PeerCertificate

_LINGER_SECONDS: Final = 2.0
_LINGER_BYTES: Final = 64 * 1024**2
_TASK_NAME: Final = "HTTP request"


class AnswerError(Exception):
    """The handler's body is not as long as its content-length says."""


class ServerConnection(RequestIntake):
    """The server's protocol class; asyncio calls it, the handler's task writes through it."""

    __slots__ = (
        "_certificate", "_discarded", "_peer", "_task", "_unsent", "_write_deadline", "_write_paused", "_write_waiter",
    )  # fmt: skip

    def __init__(self, state: ServerState) -> None:
        super().__init__(state)
        self._certificate: PeerCertificate | None = None
        self._peer = ""
        self._task: asyncio.Task[None] | None = None
        self._discarded = 0
        self._write_paused = False
        self._write_waiter: asyncio.Future[None] | None = None
        self._write_deadline = inf
        self._unsent = 0

    # Called by the event loop ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; a connection too many is answered 503."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._peer = PeerAddress(str(cast("tuple[object, ...]", peer)[0]))
        secured = transport.get_extra_info("ssl_object")
        if secured is not None and (der := secured.getpeercert(binary_form=True)):
            self._certificate = peer_certificate(der)
        state = self._state
        state.enter(self)
        self._deadline = state.now + state.limits.header_timeout + state.step
        excess = len(state.connections) - state.limits.connections
        if excess > 256 or state.closed:
            self._transport.abort()
        elif excess > 0:
            self._refuse(503)

    def data_received(self, data: bytes) -> None:
        """Take bytes, by phase."""
        phase = self._phase
        if phase is Phase.HEAD:
            self._on_head(self._buffer + data if self._buffer else data)
        elif phase is Phase.BUSY:
            if self._intake:
                self._on_body(data)
            elif not self._unread:
                self._hold(data)
        elif phase is Phase.BODY:
            self._on_part(data)
        elif phase is Phase.LINGER:
            self._discarded += len(data)
            if self._discarded > _LINGER_BYTES:
                self._transport.abort()

    def eof_received(self) -> None:
        """The peer has gone, or sends no more: either way nobody waits for an answer, as in Go's server."""
        if self._phase is Phase.BUSY:
            self._transport.abort()
        self._phase = Phase.CLOSING

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the handler, if it is still at work."""
        del exc
        self._phase = Phase.CLOSING
        self._buffer = b""
        self._parts.clear()
        if self._body is not None:
            self._body.fail(BodyError("the peer closed the connection"), at_once=True)
        if self._task is None:
            self._state.leave(self)
        else:
            self._task.add_done_callback(self._left_alone)
            self._task.cancel()

    def _left_alone(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()
        self._state.leave(self)

    def pause_writing(self) -> None:
        """The peer reads slower than we write."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """Room again."""
        self._write_paused = False
        waiter, self._write_waiter = self._write_waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # Called by the server --------------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Enforce the time limits; the server calls this for every connection at every tick of its one timer."""
        unsent = self._transport.get_write_buffer_size()
        if not unsent:
            self._write_deadline = inf
        elif unsent != self._unsent or self._write_deadline == inf:
            self._write_deadline = now + self._state.limits.write_timeout
        elif now >= self._write_deadline:
            self._transport.abort()
        self._unsent = unsent
        if now >= self._deadline:
            self._deadline = inf
            self._expire()

    def close_idle(self) -> None:
        """Close if no request is in progress."""
        if self._phase is Phase.HEAD and not self._buffer:
            self._close(linger=False)

    def abort(self) -> None:
        """End at once; the handler is cancelled by the loss of the connection."""
        self._transport.abort()

    # Answers out -----------------------------------------------------------------------------------------------------

    def _dispatch(self, head: RequestHead, body: Body, rest: bytes) -> None:
        state = self._state
        request = Request(
            head.method,
            head.target,
            head.headers,
            body,
            head.version,
            self._peer,
            state.listener,
            self._certificate,
        )
        self._phase = Phase.BUSY
        self._deadline = inf
        self._answered = False
        self._keep_alive = head.keep_alive
        self._buffer = b""
        if rest:
            self._hold(rest)
        # Made directly and with a name: the loop's way makes a text for each task: a hundredth of a state save.
        self._task = asyncio.Task(self._serve(request), loop=state.loop, name=_TASK_NAME)

    async def _serve(self, request: Request) -> None:
        """One request, from the handler to the last byte of its answer."""
        try:
            response = await self._state.handler(request)
            body = response.body
            if isinstance(body, bytes):
                self._send_whole(request, response, body)
            else:
                await self._send_stream(request, response, body)
            if self._write_paused:
                await self._writable()
        except asyncio.CancelledError as error:
            if self._task is None or self._task.cancelling() or self._phase is not Phase.BUSY:
                self._transport.abort()
                raise
            self._fail(request, error)
        except Exception as error:  # noqa: BLE001 - whatever escapes a handler is answered, and reported as a defect
            self._fail(request, error)
        self._finish()

    @property
    def _last(self) -> bool:
        """Whether the present request is the last one that this connection may bring."""
        return self._state.draining and not self._buffer

    def _send_whole(self, request: Request, response: Response, body: bytes) -> None:
        state = self._state
        keep_alive = self._keep_alive and not self._intake and (not state.draining or bool(self._buffer))
        head = whole_head(request, response, len(body), state.date, keep_alive=keep_alive)
        self._keep_alive = keep_alive
        self._answered = True
        write_whole(self._transport, head, b"" if body and has_no_body(request.method, response.status) else body)

    async def _send_stream(self, request: Request, response: Response, body: AsyncIterator[bytes] | Body) -> None:
        state = self._state
        try:
            keep_alive = self._keep_alive and not self._last
            head = stream_head(request, response, state.date, keep_alive=keep_alive)
            self._keep_alive = head.keep_alive
            self._answered = True
            self._transport.write(head.head)
            if not head.bodyless:
                await self._send_pieces(cast("AsyncIterator[bytes]", body), head)
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    async def _send_pieces(self, body: AsyncIterator[bytes], head: StreamHead) -> None:
        transport = self._transport
        left = inf if head.length is None else head.length
        async for piece in body:
            if not piece:
                continue
            left -= len(piece)
            if left < 0:
                raise AnswerError("the answer's body is longer than its content-length")
            if head.chunked:
                write_chunk(transport, piece)
            else:
                transport.write(piece)
            if self._write_paused:
                await self._writable()
        if left not in {0, inf}:
            raise AnswerError("the answer's body is shorter than its content-length")
        if head.chunked:
            transport.write(b"0\r\n\r\n")

    async def _writable(self) -> None:
        while self._write_paused:
            self._write_waiter = self._state.loop.create_future()
            await self._write_waiter

    def _fail(self, request: Request, error: BaseException) -> None:
        """Answer for a handler that did not, unless an answer has begun: then only a broken one is honest."""
        self._keep_alive = False
        body = request.body
        at_fault = isinstance(body, IncomingBody) and body.error is error
        if not isinstance(error, BodyError):  # a body that breaks off, the sender's or the app's, is no defect of ours
            self._state.report(request, error)
        if self._answered:
            self._transport.abort()
        else:
            self._transport.write(refusal(400 if at_fault else 500, self._state.date))

    def _finish(self) -> None:
        """End one exchange: on to the next request, or close."""
        self._task = None
        if self._transport.is_closing():
            return
        if self._intake:
            self._stop_intake()
        if self._body is not None:
            self._body.drop()
            self._body = None
        state = self._state
        if not self._keep_alive or (state.draining and not self._buffer):
            self._close(linger=self._unread or bool(self._buffer))
            return
        self._phase = Phase.HEAD
        self._resume_reading()
        data = self._buffer
        if data:
            self._buffer = b""
            self._deadline = state.now + state.limits.header_timeout + state.step
            self._on_head(data)
        else:
            self._deadline = state.now + state.limits.idle_timeout + state.step

    def _on_tls(self) -> None:
        self._state.on_trouble("tls", self._peer, "")

    def _refuse(self, status: int) -> None:
        """Answer a request that is no request, and close."""
        self._transport.write(refusal(status, self._state.date))
        self._close(linger=True)

    def _close(self, *, linger: bool) -> None:
        """Close once everything is written.

        Closing a socket with unread bytes resets it, and the reset may overtake the answer; so, where the peer may
        still be sending, our direction is closed first and what comes is discarded for a while.
        """
        self._buffer = b""
        if not linger:
            self._phase = Phase.CLOSING
            self._deadline = inf
            self._transport.close()
            return
        self._phase = Phase.LINGER
        self._deadline = self._state.now + _LINGER_SECONDS + self._state.step
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._resume_reading()

    def _expire(self) -> None:
        if self._phase is Phase.HEAD:
            if self._buffer.strip():
                self._refuse(408)
            else:
                self._close(linger=False)
        elif self._phase is Phase.BODY:
            self._parts.clear()
            self._refuse(408)
        elif self._phase is Phase.BUSY:
            if self._body is not None and self._body.wanted:
                self._stop_intake()
                self._body.fail(BodyError("no more of the body came in time"))
        elif self._phase is Phase.LINGER:
            self._transport.abort()
