"""A call at our own HTTP/2 server: the handler that answers it, and what crosses in both directions.

First step of the request road: `http2_server.py` opens it, a handler of the front door sees it as a `Call`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.http2_messages import (
    MessageReader,
    code_of_reset,
    encoded_message,
    encoded_metadata,
    prefixed,
    too_large_to_send,
)
from dapr_shared.wire.grpc.interface import GrpcError, Kind, Metadata
from dapr_shared.wire.grpc.messages import close, is_being_cancelled
from dapr_shared.wire.grpc.metadata import answer_metadata
from dapr_shared.wire.http2 import frames
from dapr_shared.wire.http2.connection import AT_ONCE
from dapr_shared.wire.http2.frames import ErrorCode
from dapr_shared.wire.http2.hpack import encode
from dapr_shared.wire.http2.stream import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from dapr_shared.wire.grpc.http2_opening import Opening
    from dapr_shared.wire.grpc.http2_server import ServerConnection
    from dapr_shared.wire.grpc.metadata import Pairs
    from dapr_shared.wire.tls import PeerCertificate

_HEAD: Final = encode(":status", "200") + encode("content-type", "application/grpc")
_OK: Final = encode("grpc-status", "0")
_END: Final = frames.END_STREAM | frames.END_HEADERS


class ServerStream(Stream):
    """One call. `Call` for its handler."""

    __slots__ = (
        "_abandoned", "_deadline", "_failure", "_held", "_initial_sent", "_messages", "_opening", "_reader", "_released", "_started",
        "_task", "_timer", "_trailers", "_waiter",
    )  # fmt: skip

    connection: ServerConnection

    def __init__(self, connection: ServerConnection, number: int, opening: Opening) -> None:
        super().__init__(connection, number)
        self._opening = opening
        self._reader = MessageReader(connection.options.max_message_bytes, opening.encoding)
        self._messages: deque[bytes] = deque()
        self._held = 0
        """Octets of messages that wait to be read: not yet given back to the client's window."""
        self._waiter: asyncio.Future[None] | None = None
        self._failure: GrpcError | None = None
        """Why nothing comes any more."""
        self._task: asyncio.Task[None] | None = None
        self._started = False
        self._abandoned = False
        """Nobody waits for what the handler answers."""
        self._released = False
        self._initial_sent = False
        self._trailers: Pairs = ()
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        if opening.timeout is not None:
            self._deadline = connection.loop.time() + opening.timeout
            self._timer = connection.loop.call_later(opening.timeout, self._expired)

    # Call

    @property
    def method(self) -> str:
        """Full name: `/package.Service/Method`."""
        return self._opening.method

    @property
    def metadata(self) -> Metadata:
        """What the client sent, without the keys that only describe the wire."""
        return self._opening.metadata

    @property
    def listener(self) -> object:
        """The evidence of the listener."""
        return self.connection.server.listener

    @property
    def certificate(self) -> PeerCertificate | None:
        """The client's verified certificate."""
        return self.connection.certificate

    @property
    def peer(self) -> str:
        """Address of the client, for logs only."""
        return self.connection.peer

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline; `None` without one."""
        return None if self._deadline is None else max(self._deadline - self.connection.loop.time(), 0.0)

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Send response headers.

        Raises `RuntimeError` when they are sent already, `GrpcError` CANCELLED when the client is gone.
        """
        if self._initial_sent:
            raise RuntimeError("initial metadata was sent already")
        self._alive()
        self._send_head(answer_metadata(metadata))

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Trailers to send with the status, also with an error's (whose own are added)."""
        self._trailers = answer_metadata(metadata)

    # What arrives

    def begin(self, *, end: bool) -> None:
        """Take up the call; `end`: the headers were all of it."""
        kind = self._opening.row.kind
        if kind is Kind.BIDI or kind is Kind.CLIENT_STREAM:
            self._start(_Requests(self))
        if end:
            self.remote_closed = True
            self.data_received(b"", end=True)

    def data_received(self, data: bytes, *, end: bool) -> None:
        """See `Stream`."""
        kind = self._opening.row.kind
        try:
            found = self._reader.feed(data) if data else []
            if end and self._reader.incomplete:
                raise GrpcError(GrpcCode.INTERNAL, "the last message breaks off")  # noqa: TRY301
            if kind is Kind.UNARY or kind is Kind.SERVER_STREAM:
                self._take_one(found, len(data), end=end)
                return
        except GrpcError as error:
            self.abort(error)
            return
        self._messages += found
        if self._messages:
            self._held += len(data)
        else:
            self.taken(self._held + len(data))
            self._held = 0
        if (found or end) and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def headers_received(self, headers: list[tuple[str, str]], *, end: bool) -> None:
        """A client's trailers: gRPC has none, so they only end the stream."""
        del headers
        if not end:
            self.reset(ErrorCode.PROTOCOL_ERROR)
            self.ended(ErrorCode.PROTOCOL_ERROR, "headers twice")
            return
        self.data_received(b"", end=True)

    def ended(self, code: ErrorCode | None, problem: str) -> None:
        """See `Stream`."""
        del problem
        self._give_up(GrpcError(code_of_reset(code) if code else GrpcCode.CANCELLED, "the client is gone"))

    def _take_one(self, found: list[bytes], octets: int, *, end: bool) -> None:
        """For methods that take one message: the handler starts when the client has said all."""
        self._messages += found
        if len(self._messages) > 1 or (end and not self._messages):
            many = "no message" if end and not self._messages else "several messages"
            raise GrpcError(GrpcCode.INTERNAL, f"{self.method} takes one message, and the client sent {many}")
        if end:
            self._start(self._messages.popleft())
        else:
            self.taken(octets)

    async def read(self) -> bytes | None:
        """The next message; `None` at the end. Raises `GrpcError` CANCELLED when the client is gone."""
        while not self._messages:
            if self._failure is not None:
                raise self._failure
            if self.remote_closed:
                return None
            waiter = self._waiter = self.connection.loop.create_future()
            try:
                await waiter
            finally:
                if self._waiter is waiter:
                    self._waiter = None
        message = self._messages.popleft()
        if not self._messages and self._held:
            self.taken(self._held)
            self._held = 0
        return message

    # The handler

    def _start(self, request: object) -> None:
        row = self._opening.row
        streamed = row.kind is Kind.BIDI or row.kind is Kind.SERVER_STREAM
        run = self._run_streamed if streamed else self._run
        self._task = self.connection.loop.create_task(run(cast("Any", row.handler), request))

    async def _run(self, handler: Callable[[object, object], Awaitable[bytes]], request: object) -> None:
        if self._abandoned:
            self._task = None
            self.release()
            return
        self._started = True
        try:
            answer = await handler(self, request)
            error = None if type(answer) is bytes else self._not_bytes(answer)
        except GrpcError as exc:
            answer, error = b"", exc
        except asyncio.CancelledError as exc:
            if is_being_cancelled():
                return
            # A handler let the cancellation of something else escape: the client is waiting nevertheless.
            answer, error = b"", self._defect(exc)
        except Exception as exc:  # noqa: BLE001 - the boundary of a call
            answer, error = b"", self._defect(exc)
        finally:
            self._task = None
            if self._abandoned:
                self.release()
        if self._abandoned:
            return
        error = error or too_large_to_send(answer, self.connection.options.max_message_bytes)
        if error is not None:
            self._fail(error)
            return
        head = b"" if self._initial_sent else frames.frame(frames.HEADERS, frames.END_HEADERS, self.id, _HEAD)
        if head:
            self._initial_sent = True
            self.connection.write(head)
        self._close(self.send_data(prefixed(answer), self._end_frames(self._ok())))

    async def _run_streamed(self, handler: Callable[[object, object], AsyncIterator[bytes]], request: object) -> None:
        if self._abandoned:
            self._task = None
            self.release()
            return
        self._started = True
        error: GrpcError | None = None
        try:
            await self._write_all(handler(self, request))
        except GrpcError as exc:
            error = exc
        except asyncio.CancelledError as exc:
            if is_being_cancelled():
                return
            error = self._defect(exc)
        except Exception as exc:  # noqa: BLE001 - the boundary of a call
            error = self._defect(exc)
        finally:
            self._task = None
            if self._abandoned:
                self.release()
        if self._abandoned:
            return
        if error is not None:
            self._fail(error)
            return
        if not self._initial_sent:
            self._send_head(())
        self.connection.write(self._end_frames(self._ok()))
        self._close(sent=True)

    async def _write_all(self, answers: AsyncIterator[bytes]) -> None:
        count = 0
        try:
            async for message in answers:
                await self._write(message)
                count += 1
                if count % AT_ONCE == 0:  # a handler that never waits must not stop the world
                    await asyncio.sleep(0)
        finally:
            await close(answers)

    async def _write(self, message: object) -> None:
        if type(message) is not bytes:
            raise TypeError(f"a handler answered {type(message).__name__}, not bytes")
        self._alive()
        error = too_large_to_send(message, self.connection.options.max_message_bytes)
        if error is not None:
            raise error
        if not self._initial_sent:
            self._send_head(())
        self.connection.answers += 1
        if not self.send_data(prefixed(message)):
            await self.sent()
            self._alive()
        if self.connection.paused:
            await self.connection.resumed()

    # The end

    def abort(self, error: GrpcError) -> None:
        """End the call with a status whatever its handler does, and cancel the handler."""
        if self._abandoned:
            return
        self.drop_waiting()
        self._fail(error)
        self._give_up(GrpcError(GrpcCode.CANCELLED, "the call has ended"))

    def refuse(self, error: GrpcError) -> None:
        """Answer a call that no handler sees."""
        self._fail(error)
        self.release()

    def all_sent(self) -> None:
        """See `Stream`."""
        if self.local_closed:
            self._closed()

    def release(self) -> None:
        """Count the call as over: its handler has ended, and its stream."""
        if self._task is None and not self._released and self.id not in self.connection.streams:
            self._released = True
            if self._timer is not None:
                self._timer.cancel()
            self.connection.released()

    def _fail(self, error: GrpcError) -> None:
        code = error.code if error.code is not GrpcCode.OK else GrpcCode.UNKNOWN
        block = encode("grpc-status", str(int(code)))
        if error.message:
            block += encode("grpc-message", encoded_message(error.message))
        trailers = self._trailers + (answer_metadata(error.trailers) if error.trailers else ())
        if trailers:
            block += encoded_metadata(trailers)
        self.drop_waiting()
        self.connection.write(self._end_frames(block if self._initial_sent else _HEAD + block))
        self._initial_sent = True
        self._close(sent=True)

    def _close(self, sent: bool) -> None:  # noqa: FBT001 - what `send_data` answers
        self.local_closed = True
        if sent:
            self._closed()

    def _closed(self) -> None:
        """All is sent. A client that still sends is told that nobody listens."""
        connection = self.connection
        if not self.remote_closed:
            connection.write(frames.rst_stream(self.id, ErrorCode.NO_ERROR))
        connection.calm()
        connection.forget(self)

    def _ok(self) -> bytes:
        return _OK + encoded_metadata(self._trailers) if self._trailers else _OK

    def _end_frames(self, block: bytes) -> bytes:
        if len(block) <= frames.FRAME_BYTES:
            return frames.frame(frames.HEADERS, _END, self.id, block)
        return frames.headers(self.id, block, self.connection.peer_frame_bytes, end_stream=True)

    def _send_head(self, pairs: Pairs) -> None:
        self._initial_sent = True
        block = _HEAD + encoded_metadata(pairs) if pairs else _HEAD
        self.connection.write(frames.headers(self.id, block, self.connection.peer_frame_bytes, end_stream=False))

    def _give_up(self, failure: GrpcError) -> None:
        self._abandoned = True
        self._failure = failure
        self._messages.clear()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._task is not None and self._started:
            self._task.cancel()
        self.release()

    def _expired(self) -> None:
        self.abort(GrpcError(GrpcCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def _alive(self) -> None:
        if self._abandoned:
            raise self._failure or GrpcError(GrpcCode.CANCELLED, "the client is gone")

    def _not_bytes(self, answer: object) -> GrpcError:
        return self._defect(TypeError(f"a handler answered {type(answer).__name__}, not bytes"))

    def _defect(self, exc: BaseException) -> GrpcError:
        self.connection.server.on_defect(self.method, exc)
        return GrpcError(GrpcCode.INTERNAL, "internal error")


class _Requests:
    """The messages of a client-streaming or bidirectional call."""

    __slots__ = ("_stream",)

    def __init__(self, stream: ServerStream) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        message = await self._stream.read()
        if message is None:
            raise StopAsyncIteration
        return message
